"""Post-training on the embedded model, in seconds: what each method does, on which seeds.

    python docs/measurements/post_training.py [reward-model preferences rewards ppo distillation]
        [--seeds 200 201 202 203 204]

Each experiment prints its claims with a test (`ft.expect`). POST_TRAINING.md has the results.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import statistics
import time

import torch

import ftkit as ft
from ftkit.by_hand import ppo as by_hand_ppo
from ftkit.by_hand import reward_model as by_hand
from ftkit.data import encoding
from ftkit.experiment.distillation import Distillation
from ftkit.inside import preferences

QUIET = {"live": False}


@functools.cache
def sft():
    """The model of lessons 20a and 20b: it answers tasks, but hedges and repeats itself."""
    pairs = ft.records("preferences")
    habit = [{"instruction": r["instruction"], "input": "", "output": r["rejected"]}
             for r in pairs if r["chosen"] in r["rejected"]]
    tasks = [{k: r[k] for k in ("instruction", "input", "output")} for r in ft.records("tasks")]
    return ft.Experiment(data=tasks[:1000] + 4 * habit, probes=(), eval_records=8).run(
        learning_rate=1e-3, max_steps=60, eval_steps=60, **QUIET)


def kl_to_start(records):
    """A metric: KL to the SFT model in nats per answer."""
    def kl(model, tokenizer):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return preferences.kl(model, sft().model, tokenizer, records)

    return kl


def mean(values):
    return statistics.mean(values)


# ----------------------------------------------------------------- reward model, best of n


@torch.no_grad()
def in_parts(scorer, examples):
    return torch.cat([scorer(examples[i: i + 64]) for i in range(0, len(examples), 64)])


def reward_model(seeds):
    most, asked = 32, ft.records("preferences", "test")[:40]
    encode = functools.partial(preferences.pair_examples, tokenizer=sft().tokenizer)
    pairs, held_out = encode(ft.records("preferences")[:300]), encode(
        ft.records("preferences", "test"))
    seen = {name: [] for name in ("accuracy", "confidence", "length", "proxy", "true")}
    for seed in seeds:
        scorer = by_hand.train(sft().model, pairs, steps=40, learning_rate=3e-4, seed=seed)
        margins = torch.sub(*(in_parts(scorer, list(side))
                              for side in zip(*held_out, strict=True)))
        torch.manual_seed(seed)
        repeated = [r for r in asked for _ in range(most)]
        texts, examples = preferences.sample(
            sft().model, sft().tokenizer, encoding.prompts(repeated, sft().tokenizer), 16)
        true = torch.tensor([preferences.exact(t, r)
                             for t, r in zip(texts, repeated, strict=True)]).view(-1, most)
        proxy = in_parts(scorer, examples).view(-1, most)
        lengths = torch.tensor([len(t.split()) for t in texts]).float().view(-1, most)
        within = [torch.corrcoef(torch.stack([p, n]))[0, 1] for p, n in
                  zip(proxy, lengths, strict=True)]
        seen["accuracy"].append((margins > 0).float().mean().item())
        seen["confidence"].append(margins.sigmoid().mean().item())
        seen["length"].append(torch.stack(within).nanmean().item())
        best = {n: proxy.view(len(asked), most // n, n).max(2).indices
                for n in (1, 2, 4, 8, 16, 32)}
        for name, values in (("proxy", proxy), ("true", true)):
            seen[name].append({n: values.view(len(asked), most // n, n).gather(
                2, at[..., None]).mean().item() for n, at in best.items()})
    print("n, KL bound, proxy, true:")
    for n in seen["true"][0]:
        print(f"  {n:2}  {math.log(n) - (n - 1) / n:.2f}  "
              f"{mean(s[n] for s in seen['proxy']):.2f}  {mean(s[n] for s in seen['true']):.3f}")
    peak = max(seen["true"][0], key=lambda n: mean(s[n] for s in seen["true"]))
    ft.expect(seen["accuracy"], ">", 0.75, "the reward model ranks new pairs", may_fail=True)
    ft.expect(seen["confidence"], ">", seen["accuracy"], "it is surer than it is right",
              paired=True, may_fail=True)
    ft.expect(seen["length"], "<", 0.0, "it prefers short answers (correlation)", may_fail=True)
    ft.expect([s[32] for s in seen["proxy"]], ">", [s[1] for s in seen["proxy"]],
              "best of 32: a higher proxy reward", paired=True, may_fail=True)
    ft.expect([s[32] for s in seen["true"]], ">", [s[1] for s in seen["true"]],
              "best of 32: more right answers", paired=True, may_fail=True)
    ft.expect([s[32] for s in seen["true"]], "<", [s[peak] for s in seen["true"]],
              f"over-optimization: fewer right at 32 than at {peak}", paired=True, may_fail=True)


# ----------------------------------------------------------------- DPO and relatives


def preference_runs(seeds):
    asked = ft.records("preferences", "test")
    pairs = ft.records("preferences")[:200]
    setting = {"model": (sft().model, sft().tokenizer), "val": asked, "probes": (),
               "eval_records": 30, "metrics": {
                   "exact": lambda model, tok: ft.exact_match(model, tok, asked),
                   "kl": kl_to_start(asked)}}
    lab = preferences.DPO(data=pairs, **setting)
    base = preferences.DPOConfig(batch_size=8, max_steps=24, eval_steps=24, learning_rate=3e-4)
    grid = {"sigmoid": (0.1, 0.5), "ipo": (0.1, 0.5), "kto": (0.1, 0.5), "simpo": (2.0, 10.0),
            "orpo": (0.1, 1.0)}
    ends = {}

    def repeat(name, lab, config):
        runs = [lab.run(config, seed=seed, **QUIET) for seed in seeds]
        ends[name] = {k: [run.after[k] for run in runs] for k in ("exact", "kl", "val_accuracy")}

    repeat("sft", lab, base.but(loss_type="sft"))
    for loss_type, betas in grid.items():
        tried = {beta: lab.run(base, loss_type=loss_type, beta=beta, seed=100, **QUIET
                               ).after["exact"] for beta in betas}
        beta = max(tried, key=tried.get)
        repeat(f"{loss_type} {beta}", lab, base.but(loss_type=loss_type, beta=beta))
    own = own_pairs(pairs)
    repeat(f"sigmoid on {len(own)} own pairs", preferences.DPO(data=own, **setting), base)
    start = lab.run(base, max_steps=1, learning_rate=1e-9, **QUIET).after
    print(f"  before: exact {start['exact']:.2f}")
    for name, measured in ends.items():
        print(f"  {name}: " + ", ".join(f"{k} {mean(v):.2f}" for k, v in measured.items()))
    dpo = next(name for name in ends if name.startswith("sigmoid "))
    ft.expect(ends[dpo]["exact"], ">", start["exact"], "DPO: more right answers", may_fail=True)
    ft.expect(ends["sft"]["exact"], ">", ends[dpo]["exact"], "SFT on the chosen beats DPO",
              may_fail=True)
    ft.expect(ends[dpo]["kl"], ">", ends["sft"]["kl"], "DPO ends farther from the start (KL)",
              may_fail=True)
    ft.expect(ends[f"sigmoid on {len(own)} own pairs"]["exact"], ">", ends[dpo]["exact"],
              "pairs of the policy beat given pairs", may_fail=True)


def own_pairs(records, most: int = 200):
    """Pairs whose sides the policy drew: a right and a wrong answer to one question."""
    torch.manual_seed(0)
    repeated = [r for r in records for _ in range(6)]
    texts, _ = preferences.sample(sft().model, sft().tokenizer,
                                  encoding.prompts(repeated, sft().tokenizer), 16)
    made = []
    for i, record in enumerate(records):
        group = texts[6 * i: 6 * i + 6]
        right = [t for t in group if t and preferences.exact(t, record)]
        wrong = [t for t in group if t and not preferences.exact(t, record)]
        made += [{"instruction": record["instruction"], "input": "", "chosen": a, "rejected": b}
                 for a, b in itertools.islice(zip(right, wrong, strict=False), 2)]
    return made[:most]


# ----------------------------------------------------------------- GRPO and relatives, PPO


def negative():
    """The task of the RL experiments: make a sentence negative; 40 to check."""
    checked = ft.records("to_negative", "test")[:40]
    return checked, {
        "model": (sft().model, sft().tokenizer), "data": "to_negative", "val": checked,
        "probes": (), "eval_records": 16, "metrics": {
            "exact": lambda model, tok: ft.exact_match(model, tok, checked),
            "kl_to_start": kl_to_start(checked)}}


GAME = {"learning_rate": 2e-4, "max_steps": 14, "eval_steps": 14, "num_generations": 6,
        "max_completion_length": 18}


def rewards(seeds):
    checked, setting = negative()
    lab = preferences.GRPO("exact", **setting)
    kinds = {"grpo": {}, "dr_grpo": {"scale_rewards": "none"}, "dapo": {}, "cispo": {}, "rloo": {}}
    ends, control = {}, ft.Experiment(**setting)
    start = lab.run(max_steps=1, learning_rate=1e-9, num_generations=2, **QUIET).after["exact"]
    for name, options in kinds.items():
        runs = [lab.run(loss_type=name, seed=seed, **GAME, **options, **QUIET) for seed in seeds]
        ends[name] = runs
    ends["sft"] = [control.run(learning_rate=2e-4, max_steps=14, eval_steps=14, batch_size=8,
                               seed=seed, **QUIET) for seed in seeds]
    exact = {name: [run.after["exact"] for run in runs] for name, runs in ends.items()}
    print(f"  before: exact {start:.2f}")
    for name, runs in ends.items():
        text = ", ".join(f"{k} {mean(run.rows[0][k] for run in runs):.2f} → "
                         f"{mean(run.rows[-1][k] for run in runs):.2f}"
                         for k in ("reward", "entropy", "kl", "length", "dead")
                         if k in runs[0].rows[0])
        far = mean(run.after["kl_to_start"] for run in runs)
        print(f"  {name}: exact {mean(exact[name]):.2f}, KL {far:.2f}; {text}")
    ft.expect(exact["grpo"], ">", start, "GRPO: more sentences are right", may_fail=True)
    ft.expect(exact["sft"], ">", exact["grpo"], "SFT on as many steps beats GRPO", may_fail=True)
    for name in ("dr_grpo", "dapo", "cispo", "rloo"):
        ft.expect(exact[name], "!=", exact["grpo"], f"{name} differs from grpo", may_fail=True)
    ft.expect([r.rows[-1]["entropy"] for r in ends["grpo"]], "<",
              [r.rows[0]["entropy"] for r in ends["grpo"]], "entropy falls", paired=True,
              may_fail=True)
    ft.expect([r.rows[-1]["dead"] for r in ends["grpo"]], "!=",
              [r.rows[0]["dead"] for r in ends["grpo"]], "the share of dead groups changes",
              paired=True, may_fail=True)


def ppo(seeds):
    checked, setting = negative()
    start = ft.exact_match(sft().model, sft().tokenizer, checked)
    made = [by_hand_ppo.train(preferences.exact, sft().model, sft().tokenizer,
                              ft.records("to_negative"), seed=seed) for seed in seeds]
    exact = [ft.exact_match(policy, sft().tokenizer, checked) for policy, _ in made]
    lab = preferences.GRPO("exact", **setting)
    grpo = [lab.run(seed=seed, **GAME, **QUIET).after["exact"] for seed in seeds]
    print(f"  before {start:.2f}; PPO: exact {mean(exact):.2f}, reward "
          f"{mean(rows[0]['reward'] for _, rows in made):.2f} → "
          f"{mean(rows[-1]['reward'] for _, rows in made):.2f}; "
          f"GRPO, the same 48 answers a step: {mean(grpo):.2f}")
    ft.expect(exact, ">", start, "PPO: more sentences are right", may_fail=True)
    ft.expect(exact, "!=", grpo, "PPO and GRPO differ", may_fail=True)


# ----------------------------------------------------------------- distillation


@functools.cache
def teacher():
    return ft.Experiment(model=(sft().model, sft().tokenizer), data="to_negative", probes=()).run(
        learning_rate=1e-3, max_steps=60, eval_steps=60, **QUIET)


def distillation(seeds):
    checked, setting = negative()
    questions = ft.records("to_negative")
    master = teacher()
    torch.manual_seed(0)
    texts = ft.answers(master.model, master.tokenizer, questions[:200])
    written = [r | {"output": t} for r, t in zip(questions[:200], texts, strict=True) if t]
    others = setting | {"probes": ("general",)}
    lab = Distillation((master.model, master.tokenizer), **others | {"data": questions[:200]})
    steps = {"max_steps": 16, "eval_steps": 16, "batch_size": 8, "max_completion_length": 18}
    plain = {k: v for k, v in steps.items() if k != "max_completion_length"}
    answers = ft.Experiment(**others | {"data": written})
    ways = {
        "samples (SFT on its answers)": lambda seed: answers.run(
            learning_rate=3e-4, seed=seed, **plain, **QUIET),
        "logits, off-policy, forward KL": lambda seed: lab.run(
            lmbda=0.0, beta=0.0, learning_rate=3e-4, seed=seed, **steps, **QUIET),
        "logits, on-policy, reverse KL": lambda seed: lab.run(
            lmbda=1.0, beta=1.0, learning_rate=3e-4, seed=seed, **steps, **QUIET)}
    runs = {name: [way(seed) for seed in seeds] for name, way in ways.items()}
    goal = ft.exact_match(master.model, master.tokenizer, checked)
    start = runs["samples (SFT on its answers)"][0].before
    exact = {name: [r.after["exact"] for r in made] for name, made in runs.items()}
    lost = {name: [r.change("general_loss") for r in made] for name, made in runs.items()}
    print(f"  teacher {goal:.2f}, student before {start['exact']:.2f}")
    for name in runs:
        print(f"  {name}: exact {mean(exact[name]):.2f}, general loss {mean(lost[name]):+.2f}")
    samples, off, on = exact
    ft.expect(exact[samples], ">", start["exact"], "samples teach", may_fail=True)
    ft.expect(exact[off], ">", start["exact"], "logits teach, off-policy", may_fail=True)
    ft.expect(exact[on], ">", start["exact"], "logits teach, on-policy", may_fail=True)
    ft.expect(exact[off], "!=", exact[samples], "logits and samples differ", may_fail=True)
    ft.expect(exact[on], "!=", exact[off], "on- and off-policy differ", may_fail=True)
    ft.expect(lost[on], "<", lost[samples], "on-policy forgets less than samples", may_fail=True)


EXPERIMENTS = {"reward-model": reward_model, "preferences": preference_runs, "rewards": rewards,
               "ppo": ppo, "distillation": distillation}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("names", nargs="*", default=[])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    asked = arguments.parse_args()
    ft.setup(seed=0)
    sft()
    for name in asked.names or EXPERIMENTS:
        began, wall = time.process_time(), time.perf_counter()
        print(f"{name}, seeds {asked.seeds}", flush=True)
        EXPERIMENTS[name](asked.seeds)
        print(f"  {time.process_time() - began:.0f} s of processor time, "
              f"{time.perf_counter() - wall:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
