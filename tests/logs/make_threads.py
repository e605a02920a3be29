"""Make logs in the shape of real threads: `python tests/logs/make_threads.py`.

Numbers are from the thread where it prints them, else drawn from its picture or its text.
Every second log of a cause is held out.
"""

import json
from pathlib import Path
from random import Random

OUT = Path(__file__).with_name("threads.jsonl")
NAN = float("nan")


def log(n=60, start=1.9, end=1.1, noise=0.05, rate=2e-5, every=10, seed=0, evals=None, **more):
    rng = Random(seed)
    step = [every * (i + 1) for i in range(n)]
    loss = [end + (start - end) * 0.93 ** i + rng.gauss(0, noise) for i in range(n)]
    lr = [rate * min(1, (i + 1) / 4) * (1 - i / n) for i in range(n)]
    norm = [abs(rng.gauss(1.2, 0.3)) for _ in range(n)]
    out = {"step": step, "loss": loss, "learning_rate": lr, "grad_norm": norm,
           "epoch": [3 * s / step[-1] for s in step]}
    if evals:
        out["eval_loss"] = [evals[(i + 1) * len(evals) // n - 1]
                            if (i + 1) * len(evals) % n < len(evals) else None for i in range(n)]
    return out | more


def broken(at, value, norm=NAN, n=40, some=1.0, seed=0):
    """Rows that become `value` from row `at` on, a fraction `some` of them."""
    made, rng = log(n, seed=seed), Random(seed)
    hit = [i >= at and rng.random() < some for i in range(n)]
    made["loss"] = [value if h else x for h, x in zip(hit, made["loss"], strict=True)]
    made["grad_norm"] = [norm if h else x for h, x in zip(hit, made["grad_norm"], strict=True)]
    return made


def stairs(drops, n=90, seed=0, **more):
    made = log(n, noise=0.02, seed=seed)
    levels = [1.25, *drops]
    made["loss"] = [levels[min(i * len(levels) // n, len(drops))] + Random(seed + i).gauss(0, 0.03)
                    for i in range(n)]
    made["epoch"] = [round(len(levels) * (i + 1) / n, 3) for i in range(n)]
    return made | more


def rising(at, top, n=60, seed=0):
    made = log(n, rate=2e-4, seed=seed)
    made["loss"] = [x if i < at else top + Random(seed + i).gauss(0, 0.3)
                    for i, x in enumerate(made["loss"])]
    return made


def grpo(n=30, seed=0, std=0.4, reward=(0.3, 0.8), cut=0.0, loss=0.0, dead=None):
    rng = Random(seed)
    a, b = reward
    line = [a + (b - a) * i / (n - 1) for i in range(n)]
    return {"step": list(range(1, n + 1)), "loss": [loss] * n,
            "grad_norm": [rng.uniform(0.08, 0.12) if std else 0.0 for _ in range(n)],
            "learning_rate": [1e-6] * n, "reward": line, "reward_std": [std] * n,
            "kl": [5e-4 * (1 + i / n) for i in range(n)],
            "frac_reward_zero_std": [dead if dead is not None else 0.1] * n,
            "completions/clipped_ratio": [cut] * n, "completions/mean_length": [233.0] * n}


def dpo(chosen, rejected, n=40, seed=0):
    rng, made = Random(seed), log(n, 0.69, 0.2, rate=5e-7, seed=seed)
    for name, last in (("chosen", chosen), ("rejected", rejected)):
        made[f"rewards/{name}"] = [last * i / n + rng.gauss(0, 0.05) for i in range(n)]
    made["rewards/margins"] = [a - b for a, b in zip(
        made["rewards/chosen"], made["rewards/rejected"], strict=True)]
    return made


def collapse():
    made = grpo(seed=5)
    made["reward"] = [0.2 + 0.02 * i if i < 18 else 0.03 for i in range(30)]
    made["kl"] = [0.01 if i < 16 else 0.4 * (i - 15) for i in range(30)]
    return made


def repeated():
    batch = [0.9741, 1.3742, 1.2390, 0.9670, 1.0386, 1.1681, 1.2240, 0.9610]
    return {"step": list(range(1, 33)), "loss": batch * 4, "epoch": [i // 8 + 1 for i in range(32)]}


def flat(loss, norm, rate, n=40, seed=0, noise=0.03):
    made = log(n, loss, loss, noise, seed=seed)
    return made | {"grad_norm": [norm] * n, "learning_rate": [rate] * n}


def spikes():
    made = log(60, 1.5, 1.1, 0.15, 1e-4, 1)
    made["grad_norm"] = [11140.0 if i in (8, 27, 44) else x * 6
                         for i, x in enumerate(made["grad_norm"])]
    return made


OVERFIT = [1.02, 0.95, 0.97, 1.05, 1.2, 1.33]
GENERAL = {"eval_general_loss": [None if i % 10 else 1.9 + 0.011 * i for i in range(60)]}
THREADS = [
    ("overflow", "unslothai/unsloth/issues/712", broken(12, 0.0, seed=1)),
    ("overflow", "jzhang38/TinyLlama/issues/153", broken(2, 0.0, seed=2)),
    ("overflow", "google/gemma_pytorch/issues/24", broken(2, NAN, some=0.4, seed=3)),
    ("overflow", "zai-org/ChatGLM-6B/issues/325", broken(1, NAN, seed=4)),
    ("all_masked", "ymcui/Chinese-LLaMA-Alpaca-3/issues/29", broken(0, 0.0)),
    ("frozen", "QwenLM/Qwen3/issues/825", flat(2.3, 0.0, 1e-5)),
    ("frozen", "verl-project/verl/issues/4514", flat(0.8, 0.0, 1e-6, seed=1)),
    ("frozen", "BeyonderXX/TRACE/issues/5", repeated()),
    ("rate_zero", "OpenBMB/MiniCPM-V/issues/346", flat(2.44, 0.0, 0, n=12)),
    ("rate_zero", "baichuan-inc/Baichuan2/issues/161", flat(2.1, 1.3, 0, n=30)),
    ("epoch_steps", "lm-sys/FastChat/issues/2025", stairs([0.8, 0.45], seed=1)),
    ("epoch_steps", "hiyouga/LlamaFactory/issues/7485", stairs([1.05, 0.85], seed=2)),
    ("epoch_steps", "tatsu-lab/stanford_alpaca/issues/236", stairs([0.9, 0.5], seed=3)),
    ("epoch_steps", "tloen/alpaca-lora/issues/502", stairs([1.0, 0.7], seed=4)),
    ("trained_too_long", "hiyouga/LlamaFactory/issues/4351", log(evals=OVERFIT, end=0.5)),
    ("trained_too_long", "huggingface/transformers/issues/22934",
     log(evals=[1.3, 1.21, 1.2, 1.3, 1.41], end=0.7, seed=1)),
    ("trained_too_long", "hiyouga/LlamaFactory/issues/3856",
     stairs([0.7, 0.3, 0.12], seed=5) | {"eval_loss": [
         None if i % 15 else 1.1 + 0.006 * i for i in range(90)]}),
    ("trained_too_long", "artidoro/qlora/issues/152",
     log(evals=[1.2, 1.15, 1.19, 1.28, 1.4, 1.55], end=0.8, seed=2)),
    ("rate_too_high", "haotian-liu/LLaVA/issues/918", rising(15, 6.6, seed=1)),
    ("rate_too_high", "haotian-liu/LLaVA/issues/1301", rising(40, 4.0, seed=2)),
    ("rate_too_high", "openvla/openvla/pull/334", rising(30, 5.2, seed=3)),
    ("outlier_batches", "unslothai/unsloth/issues/5207", spikes()),
    ("chosen_falls", "OpenRLHF/OpenRLHF/issues/1054", dpo(-2.5, -6.0)),
    ("chosen_falls", "huggingface/trl/issues/800", dpo(-1.0, -4.0, seed=1)),
    ("dead_groups", "huggingface/trl/issues/3857", grpo(std=0.0, reward=(3, 3), dead=1.0)),
    ("cut_answers", "greyhaven-ai/autocontext/pull/1067",
     grpo(std=0.0, reward=(0, 0), cut=1.0, dead=1.0)),
    ("reward_collapsed", "Alibaba-NLP/ZeroSearch/issues/23", collapse()),
    ("loss_multiplied", "huggingface/transformers/issues/37766",
     log(start=17, end=9, evals=[1.4, 1.25, 1.2, 1.15, 1.14, 1.13])),
    ("rate_too_low", "modelscope/ms-swift/issues/2079", flat(2.15, 1.1, 1e-6, n=80)),
    ("nothing_replayed", "smallcloudai/refact/issues/311",
     log(evals=[1.2, 1.0, 0.9, 0.85], end=0.6, seed=7) | GENERAL),
    ("", "huggingface/trl/issues/3452", grpo(reward=(1.7, 2.0), std=0.6)),
    ("", "huggingface/open-r1/issues/239", grpo(seed=2, loss=1e-4)),
]


if __name__ == "__main__":
    seen: dict[str, int] = {}
    with open(OUT, "w", encoding="utf-8") as file:
        for cause, link, columns in THREADS:
            seen[cause] = seen.get(cause, 0) + 1
            short = {k: [v if v is None else float(f"{v:.4g}") for v in vs]
                     for k, vs in columns.items()}
            case = {"cause": cause, "held_out": seen[cause] % 2 == 0,
                    "link": f"https://github.com/{link}", "log": short}
            file.write(json.dumps(case) + "\n")
