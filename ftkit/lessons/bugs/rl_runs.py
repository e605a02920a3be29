"""RL runs that went wrong: eleven causes, each made by a short run of GRPO with drawn parameters.

    case = rl_runs.case(0); case            the log as a colleague sends it, and what to ask for
    case.ask("mismatch")                    a further reading
    case.guess("stale_policy"); case.repair(refresh=1)

`train` is GRPO in one function; what is wrong in a case is a field of its `Settings`.
"""

import copy
import dataclasses
import functools
import random
from collections.abc import Callable
from typing import Any

import torch

from ftkit.base.config import GRPOConfig
from ftkit.base.errors import UserError
from ftkit.base.formatting import number, to_html
from ftkit.data import encoding, schema
from ftkit.engine import loop
from ftkit.evaluate import scoring
from ftkit.experiment import preference_losses as losses
from ftkit.experiment import rewards
from ftkit.experiment.preferences import log_probs, sample
from ftkit.lessons.bugs import causes as shared
from ftkit.lessons.bugs.causes import Cause
from ftkit.report.table import Table, table

TARGET = 0.5  # exact match of a repaired run
CHECKED = 40  # sentences that it is measured on
LOSS = GRPOConfig(loss_type="dapo")  # the mean over all tokens
COLUMNS = ("loss", "reward", "kl", "entropy", "length", "dead")


def _word(answer: str, record: dict) -> float:
    return float("not" in scoring.normal(answer).split())


def _words_count(answer: str, record: dict) -> float:
    return rewards.exact(answer, record) + min(len(answer.split()), 18) / 18


def _strict(answer: str, record: dict) -> float:
    return float(answer == encoding.answer(record).lower())


REWARDS: dict[str, Callable[[str, dict], float]] = {
    "exact": rewards.exact, "has the word not": _word, "exact, and a bonus for each word":
    _words_count, "equal to the reference in lower case": _strict}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of `train`. refresh: batches between two copies of the policy to the sampler.
    prompt: what the sampler sees, "{}" standing for the prompt. shift: tokens by which the old
    log-probabilities are displaced."""

    learning_rate: float = 4e-4
    steps: int = 12
    iterations: int = 2
    temperature: float = 1.0
    reward: str = "exact"
    data: str = "to_negative"
    refresh: int = 1
    prompt: str = "{}"
    shift: int = 0


@dataclasses.dataclass(frozen=True)
class Trained:
    """before, after: exact match of greedy answers to the `CHECKED` test records."""

    settings: Settings
    rows: list[dict]
    before: float
    after: float
    answers: list[tuple[str, str]]


@functools.cache
def start() -> tuple[Any, Any]:
    """A model that makes some of the sentences negative, and its tokenizer."""
    from ftkit.experiment.experiment import Experiment

    run = Experiment(data=schema.records("tasks")[:1000], probes=(), eval_records=8).run(
        learning_rate=1e-3, max_steps=30, eval_steps=30, precision="fp32", live=False)
    return run.model, run.tokenizer


@functools.cache
def train(settings: Settings, seed: int = 0) -> Trained:
    """GRPO on 8 questions of 6 answers a batch. A row for each batch: loss, reward, kl (nats per
    answer), entropy (nats per token), length (tokens), dead (fraction of groups), clipped (fraction
    of tokens, in the first update) and mismatch (mean difference, nats per token, of the sampler's
    log-probabilities from the trainer's before the first update)."""
    torch.manual_seed(seed)
    model, tokenizer = start()
    policy, reward = copy.deepcopy(model), REWARDS[settings.reward]
    records = schema.records(settings.data)
    if settings.data == "reverse":  # four words or more are not reversed by chance
        records = [r for r in records if r["input"].count(",") > 2]
    plain = encoding.prompts(records, tokenizer)
    wrapped = [tokenizer(settings.prompt.format(tokenizer.decode(ids)),
                         add_special_tokens=False)["input_ids"] for ids in plain]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    order, rows = loop.shuffled(len(records), 8, seed), []
    for step in range(settings.steps):
        if step % settings.refresh == 0:
            sampler = copy.deepcopy(policy)
        asked = [i for i in next(order) for _ in range(6)]
        texts, drawn = sample(sampler, tokenizer, [wrapped[i] for i in asked], 18,
                              settings.temperature)
        answers = [example["input_ids"][len(wrapped[i]):]
                   for i, example in zip(asked, drawn, strict=True)]
        examples = [{"input_ids": plain[i] + ids,
                     "labels": [encoding.NO_LOSS] * len(plain[i]) + ids}
                    for i, ids in zip(asked, answers, strict=True)]
        earned = torch.tensor([reward(text, records[i])
                               for text, i in zip(texts, asked, strict=True)]).view(-1, 6)
        gains = losses.advantages(earned).flatten()
        with torch.no_grad():
            before, mask = log_probs(policy, examples)
            sampled, reference = log_probs(sampler, drawn)[0], log_probs(model, examples)[0]
        old = before.roll(settings.shift, 1)
        for update in range(settings.iterations):
            now = log_probs(policy, examples)[0]
            loss = losses.grpo(now, old, mask, gains, LOSS)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            if update == 0:
                rows.append({"step": step + 1, "loss": loss.item(),
                             "clipped": losses.clipped(now, old, mask, gains, LOSS)})
        rows[-1] |= {
            "reward": earned.mean().item(), "length": mask.sum(1).mean().item(),
            "kl": (losses.k3(before, reference) * mask).sum(1).mean().item(),
            "entropy": (-(before * mask).sum() / mask.sum()).item(),
            "dead": (earned == earned[:, :1]).all(1).float().mean().item(),
            "mismatch": (((sampled - before).abs() * mask).sum() / mask.sum()).item()}
    checked = schema.records(settings.data, "test")[:CHECKED]
    said = scoring.answers(policy, tokenizer, checked[:3], max_new_tokens=18)
    return Trained(settings, rows, scoring.exact_match(model, tokenizer, checked),
                   scoring.exact_match(policy, tokenizer, checked),
                   [(encoding.answer(r), text) for r, text in zip(checked, said, strict=False)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLCause(Cause):
    """A cause in an RL run. draw: the Settings of a case, apart from the defaults."""

    draw: Callable[[random.Random], dict]


CAUSES: dict[str, RLCause] = {}


def _cause(name: str, title: str, complaint: str, sign: str, remedy: str, draw, **also: str):
    CAUSES[name] = RLCause(name=name, title=title, complaint=complaint, sign=sign, remedy=remedy,
                           lesson="20d", draw=draw, also=also)


_cause("healthy", "nothing is wrong: a loss near 0 is normal in GRPO",
       "The loss is 0 from the first step. It does not train!",
       "the reward: it rises, while the advantages of each group add up to 0, and so does the loss",
       "watch reward, KL and exact match; the loss measures nothing",
       lambda rng: {"iterations": 1, "learning_rate": rng.choice((4e-4, 5e-4, 6e-4)),
                    "steps": rng.choice((12, 14))})
_cause("kl_blowup", "the learning rate is too high: the policy left the reference at once",
       "The reward went up once and then to 0. Is the checker down?",
       "kl: tens or hundreds of nats per answer within a few steps, and the reward falls with it",
       "a third to a tenth of the learning rate; then a KL term, clipping",
       lambda rng: {"learning_rate": rng.choice((4e-3, 5e-3, 6e-3))})
_cause("rate_too_low", "the learning rate is too low",
       "Reward, length, entropy: everything is stable. It just does not learn.",
       "kl: it stays near 0, so the policy is still the reference",
       "ten times the learning rate, until the KL moves",
       lambda rng: {"learning_rate": rng.choice((1e-6, 2e-6, 4e-6))})
_cause("entropy_collapse", "too little exploration: answers are drawn at a low temperature",
       "We draw nearly greedily, for quality. The reward stopped early.",
       "entropy: it is a fraction of a healthy run's at the first step, so groups agree and are "
       "dead",
       "draw at temperature 1; a higher upper clip limit; new questions",
       lambda rng: {"temperature": rng.choice((0.1, 0.15, 0.2))},
       dead_groups="groups are dead, because their six answers are the same one")
_cause("length_explosion", "the reward pays for each word, so the answers grow to the limit",
       "We added a small bonus for longer reasoning. Now it never stops.",
       "length: it rises to the limit of 18 tokens, and exact match falls",
       "no bonus for length; mask cut answers, or a penalty near the limit",
       lambda rng: {"reward": "exact, and a bonus for each word",
                    "learning_rate": rng.choice((6e-4, 8e-4))},
       reward_hacked="it is hacked; what pays is the length")
_cause("checker_bug", "the checker is wrong: it rejects right answers",
       "The reward is 0 and stays 0. Is the task too hard?",
       "the checker on the reference answers: it accepts none of them",
       "test the checker on reference answers and on variants before the first run",
       lambda rng: {"reward": "equal to the reference in lower case",
                    "learning_rate": rng.choice((3e-4, 4e-4, 5e-4))},
       dead_groups="all groups are dead, because the checker pays nothing")
_cause("template_mismatch", "answers are drawn with another template than they are trained with",
       "vLLM gives good answers. The training gets noisy ones worse.",
       "mismatch at the first step: sampler and trainer disagree although both have one set of "
       "weights",
       "compare the token ids of a prompt in sampler and trainer",
       lambda rng: {"prompt": rng.choice(("{} Answer:", "System: Be brief.\n{}",
                                          "User: Hello.\nAssistant: Hello.\n{}"))})
_cause("stale_policy", "the answers come from an old copy of the policy",
       "We made it asynchronous. It is fast and does not learn any more.",
       "mismatch: 0 at first, then it grows as long as the sampler keeps its weights",
       "copy the weights more often; weight by the ratio to the sampler, with a limit",
       lambda rng: {"refresh": rng.choice((12, 14)), "steps": 12})
_cause("dead_groups", "no group has a right and a wrong answer, so there is no gradient",
       "GRPO runs without an error and the reward does not move.",
       "dead: nearly 1, and the checker accepts the reference answers",
       "easier questions, SFT first, more answers to a question",
       lambda rng: {"data": "reverse", "learning_rate": rng.choice((3e-4, 4e-4, 5e-4))})
_cause("wrong_old", "the old log-probabilities belong to other tokens",
       "The loss is far from 0 at the first steps, and it learns badly.",
       "clipped in the first update on a batch: it must be 0, since nothing has changed yet",
       "check that the ratio is 1 before the first update: shift, padding, dropout, temperature",
       lambda rng: {"shift": rng.choice((1, 2, -1))})
_cause("reward_hacked", "the reward is hacked: it pays for something that is not the task",
       "The reward climbs beautifully. Can we ship?",
       "exact match: it falls while the reward rises",
       "repair the checker; watch a measure that is not trained on; read the best-paid answers",
       lambda rng: {"reward": "has the word not", "learning_rate": rng.choice((8e-4, 1e-3))})


def causes() -> Table:
    """The causes that a case may have."""
    return table([{"name": name, "cause": cause.title} for name, cause in CAUSES.items()])


def case(number: int) -> "Case":
    """An RL run with a cause that `number` decides; each eleven cases have every cause once."""
    return Case(number, CAUSES[shared.pick(CAUSES, "rl", number=number)])


class Case(shared.Case):
    """A case: its log, and further readings. `repair` takes fields of `Settings`."""

    _cause: RLCause

    def __init__(self, number_: int, cause: RLCause):
        super().__init__(cause, CAUSES, f"rl {number_}", number_)
        rng = random.Random(f"rl/{number_}")
        self.settings = Settings(**cause.draw(rng))
        self._seed = rng.randrange(100)
        self.run = train(self.settings, self._seed)

    def log(self) -> Table:
        """Every other row of the log."""
        rows = [*self.run.rows[:-1:2], self.run.rows[-1]]
        return table([{key: round(row[key], 3) for key in ("step", *COLUMNS)} for row in rows])

    def readings(self) -> dict[str, str]:
        """Name → text of what `ask` answers."""
        rows, run = self.run.rows, self.run
        test = schema.records(self.settings.data, "test")[:CHECKED]
        paid = sum(REWARDS[self.settings.reward](encoding.answer(r), r) > 0 for r in test)

        def series(key):
            return ", ".join(f"{number(row[key])} at step {row['step']}" for row in rows[::3])

        return {"exact match": f"{run.before:.0%} before, {run.after:.0%} after",
                "answers": "; ".join(f"{wanted!r}: {said!r}" for wanted, said in run.answers),
                "checker": f"{self.settings.reward}; it pays {paid} of {len(test)} references",
                "mismatch": f"sampler against trainer, nats per token: {series('mismatch')}",
                "clipped": f"fraction of the tokens in the first update: {series('clipped')}"}

    def ask(self, reading: str) -> str:
        """One of the readings. Raises UserError for another."""
        found = self.readings()
        if reading not in found:
            raise UserError(f"reading is {reading!r:.40}; expected one of {', '.join(found)}")
        return found[reading]

    def _changes(self, what, changes):
        known = {field.name for field in dataclasses.fields(Settings)}
        if what is not None or not changes or not changes.keys() <= known:
            raise UserError(f"repair takes fields of the settings; expected some of "
                            f"{', '.join(sorted(known))}, such as learning_rate=4e-4")
        return changes

    def _rerun(self, changes):
        return train(dataclasses.replace(self.settings, **changes), self._seed)

    def misses(self, run):
        first, limits = run.rows[0], {"clipped": 0.0, "mismatch": 1e-3}
        missed = [f"{key} at step 1 is {number(first[key])}, and 0 is expected"
                  for key, most in limits.items() if first[key] > most]
        return missed + ([] if run.after >= TARGET else [
            f"exact match is {number(run.after)}, and {TARGET} is asked"])

    def _lines(self) -> list[str]:
        return [f"RL case {self._number}. {self._cause.complaint}",
                f"Ask for: {', '.join(self.readings())}."]

    def __repr__(self):
        return "\n".join([*self._lines(), repr(self.log())])

    def _repr_html_(self):
        head = "<br>".join(to_html(line) for line in self._lines())
        return f"{head}{self.log()._repr_html_()}"
