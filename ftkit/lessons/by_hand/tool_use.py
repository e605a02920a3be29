"""An environment with two tools and episodes of two turns, and GRPO over them, from scratch.

    records = tool_use.questions(200)
    model = tool_use.warm_start(base, tokenizer, tool_use.demonstrations(records))
    policy, rows = tool_use.train(tool_use.right, model, tokenizer, records)

A question asks for a sum, or for the number of a person, which is drawn anew in each question.
Turn one is a call, `add six seven` or `find Anna`; the environment appends `Tool: thirteen`; turn
two is the answer. The tokens of the environment are part of the text and not of the policy.
"""

import copy
import random
from collections.abc import Callable
from typing import NamedTuple

import torch

from ftkit.data import encoding
from ftkit.engine import generation, loop
from ftkit.evaluate import scoring
from ftkit.experiment import preference_losses as losses
from ftkit.experiment.preferences import log_probs

NUMBERS: tuple[str, ...] = tuple((
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty").split())
PEOPLE = ("Anna", "Leo", "Ravi", "Molly", "Amy", "Sara")
CALL_TOKENS, ANSWER_TOKENS = 10, 12  # limits of the two turns
QUESTION, CALL, TOOL, ANSWER = range(4)  # who wrote a token; the first and third: the environment


class Episode(NamedTuple):
    """A question with both turns. writers: QUESTION, CALL, TOOL or ANSWER for each id."""

    record: dict
    call: str
    result: str
    answer: str
    ids: list[int]
    writers: list[int]


def questions(count: int, seed: int = 0) -> list[dict]:
    """Records with instruction, output (the right answer), call (a right call) and table."""
    rng, records = random.Random(f"tools/{seed}"), []
    for _ in range(count):
        table = {person: rng.choice(NUMBERS) for person in PEOPLE}
        if rng.random() < 0.5:
            person = rng.choice(PEOPLE)
            asked, call, right = f"the number of {person}", f"find {person}", table[person]
        else:
            a, b = rng.randrange(11), rng.randrange(11)
            asked, call, right = (f"{NUMBERS[a]} plus {NUMBERS[b]}",
                                  f"add {NUMBERS[a]} {NUMBERS[b]}", NUMBERS[a + b])
        records.append({"instruction": f"What is {asked}?", "input": "", "output": right,
                        "call": call, "table": table})
    return records


def use(call: str, record: dict) -> str:
    """What the environment answers to a call; "error" if it is not one."""
    words = call.split()
    if len(words) == 2 and words[0] == "find":
        return record["table"].get(words[1], "error")
    if len(words) == 3 and words[0] == "add" and set(words[1:]) <= set(NUMBERS):
        total = sum(map(NUMBERS.index, words[1:]))
        return NUMBERS[total] if total < len(NUMBERS) else "error"
    return "error"


def assemble(tokenizer, record: dict, call: list[int], answer: list[int] | None = None) -> Episode:
    """An Episode from the tokens of its turns; without an answer it ends where one is expected."""
    (prompt,) = encoding.prompts([record], tokenizer)
    text = tokenizer.decode(call, skip_special_tokens=True).strip()
    result = use(text, record)
    seen = tokenizer(f"\nTool: {result}\nAssistant:", add_special_tokens=False)["input_ids"]
    said = tokenizer.decode(answer or [], skip_special_tokens=True).strip()
    return Episode(record, text, result, said, [*prompt, *call, *seen, *(answer or [])],
                   [QUESTION] * len(prompt) + [CALL] * len(call) + [TOOL] * len(seen)
                   + [ANSWER] * len(answer or []))


def play(model, tokenizer, records: list[dict], temperature: float = 1.0) -> list[Episode]:
    """Let the model take both turns of each question. temperature 0 is greedy."""
    ends = sorted(encoding.eos_ids(tokenizer, model))

    def drawn(prompts, limit):
        return generation.generate(model, prompts, limit, ends, temperature=temperature)

    calls = drawn(encoding.prompts(records, tokenizer), CALL_TOKENS)
    half = [assemble(tokenizer, record, call)
            for record, call in zip(records, calls, strict=True)]
    answers = drawn([episode.ids for episode in half], ANSWER_TOKENS)
    return [assemble(tokenizer, *turns) for turns in zip(records, calls, answers, strict=True)]


def right(episode: Episode) -> float:
    """The honest reward: 1 if the answer, and nothing else, is the right number."""
    return float(scoring.normal(episode.answer) == episode.record["output"])


def demonstrations(records: list[dict], seed: int = 0) -> list[tuple[dict, str, str]]:
    """(record, call, answer) as a mixed crowd would write them: half are right; the others guess,
    call the wrong tool, do not stop at the answer, or list numbers."""
    rng, made = random.Random(f"demonstrations/{seed}"), []
    for record in records:
        guess, right_one = rng.choice(NUMBERS), record["output"]
        wrong_call = f"find {rng.choice(PEOPLE)}" if "plus" in record["instruction"] else (
            f"add {guess} {rng.choice(NUMBERS)}")
        call, answer = rng.choice([
            (record["call"], right_one), (record["call"], right_one), (record["call"], right_one),
            (guess, guess), (wrong_call, guess), (record["call"], f"{guess} or {right_one}"),
            (record["call"], " ".join(rng.sample(NUMBERS, 4)))])
        made.append((record, call, answer))
    return made


def warm_start(model, tokenizer, shown, steps: int = 60, learning_rate: float = 1e-3,
               seed: int = 0):
    """Train a copy of the model on demonstrations, by the mean loss of the tokens it must write."""
    policy, end = copy.deepcopy(model), [min(encoding.eos_ids(tokenizer, model))]
    episodes = [assemble(tokenizer, record, *(
        tokenizer(f" {text}", add_special_tokens=False)["input_ids"] + end
        for text in turns)) for record, *turns in shown]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    order = loop.shuffled(len(episodes), 16, seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        found, mask = log_probs(policy, [example(episodes[i]) for i in next(order)])
        (-(found * mask).sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy.eval()


def example(episode: Episode, writers: tuple[int, ...] = (CALL, ANSWER)) -> dict:
    """The episode as input_ids and labels; labeled are the tokens of these writers."""
    labels = [token if writer in writers else encoding.NO_LOSS
              for token, writer in zip(episode.ids, episode.writers, strict=True)]
    return {"input_ids": episode.ids, "labels": labels}


def measures(episodes: list[Episode]) -> dict[str, float]:
    """Fractions of episodes: right answers, right calls, answers that list several numbers; and
    the mean number of words of an answer."""
    def mean(function):
        return sum(map(function, episodes)) / len(episodes)

    return {"right": mean(right), "right_call": mean(lambda e: float(e.result
                                                                     == e.record["output"])),
            "lists": mean(lambda e: float(sum(w in NUMBERS for w in e.answer.split()) > 1)),
            "words": mean(lambda e: len(e.answer.split()))}


def train(reward: Callable[[Episode], float], model, tokenizer, records: list[dict],
          steps: int = 16, questions: int = 8, size: int = 6, learning_rate: float = 2e-4,
          writers: tuple[int, ...] = (CALL, ANSWER), seed: int = 0):
    """GRPO over whole episodes: each token of the `writers` gets the advantage of its episode. The
    sum is divided by the number of tokens that the policy wrote, whoever the `writers` are.

    Returns the policy and a row for each step: reward, and the `measures`.
    """
    torch.manual_seed(seed)
    policy, rows = copy.deepcopy(model), []
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    order = loop.shuffled(len(records), questions, seed)
    for step in range(steps):
        asked = [records[i] for i in next(order) for _ in range(size)]
        episodes = play(policy, tokenizer, asked)
        earned = torch.tensor([float(reward(episode)) for episode in episodes]).view(-1, size)
        gains = losses.advantages(earned).flatten()
        now, mask = log_probs(policy, [example(episode, writers) for episode in episodes])
        written = sum(w in (CALL, ANSWER) for episode in episodes for w in episode.writers)
        (-(now * gains[:, None] * mask).sum() / written).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
        rows.append({"step": step + 1, "reward": earned.mean().item()} | measures(episodes))
    return policy.eval(), rows
