"""Lesson 03, the PEFT family."""

from __future__ import annotations

from ftkit.lessons.claims import exercise, near

# Llama 2 7B
LLAMA = {"layers": 32, "hidden": 4096, "kv": 4096, "inner": 11008}
QWEN = {"layers": 24, "hidden": 896, "kv": 128, "inner": 4864}  # grouped keys and values


@exercise("trained_numbers")
def _(trained_numbers):
    for method, wanted in (("ia3", 614_400), ("prompt", 81_920), ("prefix", 5_242_880)):
        made = trained_numbers(method, tokens=20, **LLAMA)
        if method == "ia3" and made == 32 * 3 * 4096:
            return ("ia3 on Llama 2 7B: 393,216 takes three vectors of the hidden size; the third "
                    "scales what enters the last MLP matrix, which is as wide as the MLP inside")
        if method == "prefix" and made == wanted // 2:
            return "prefix on Llama 2 7B: half of it; every layer gets keys and values"
        if method == "prefix" and made == 2 * 20 * 4096:
            return "prefix on Llama 2 7B: 163,840 is one layer's; each layer has its own"
        if made != wanted:
            return f"{method} on Llama 2 7B with 20 virtual tokens: {made!r}; expected {wanted:,}"
    for method, wanted in (("ia3", 122_880), ("prompt", 8_960), ("prefix", 61_440)):
        made = trained_numbers(method, tokens=10, **QWEN)
        if made != wanted:
            return (f"{method} where keys and values are narrower (kv=128, hidden=896): {made!r}; "
                    f"expected {wanted:,}")


MERGES = {"lora": True, "dora": True, "pissa": True, "ia3": True, "prompt": False, "prefix": False,
          "adapter": False}


@exercise("can_be_merged")
def _(can_be_merged):
    for method, wanted in MERGES.items():
        made = can_be_merged(method)
        if bool(made) == wanted:
            continue
        why = {"adapter": "a nonlinear MLP stands between the layers; no matrix equals it",
               "prompt": "its vectors are input, no part of a weight",
               "prefix": "its keys and values are no part of a weight",
               "ia3": "a scale on the output (or input) is a diagonal factor of the weight",
               "dora": "the rescaled W + BA is one matrix"}.get(method, "W + BA is one matrix")
        return f"{method}: you say {'yes' if made else 'no'}; {why}"


@exercise("best_rate")
def _(best_rate):
    runs = [{"method": "full", "rate": 1e-3, "loss": 0.50}, {"method": "full", "rate": 1e-3,
            "loss": 0.54}, {"method": "full", "rate": 3e-3, "loss": 0.40},
            {"method": "full", "rate": 3e-3, "loss": 0.90},
            {"method": "lora", "rate": 1e-3, "loss": 1.40}, {"method": "lora", "rate": 1e-3,
            "loss": 1.50}, {"method": "lora", "rate": 1e-2, "loss": 0.55},
            {"method": "lora", "rate": 1e-2, "loss": 0.57}]
    made = best_rate(list(runs))
    if not isinstance(made, dict) or set(made) != {"full", "lora"}:
        return f"{made!r}; expected a rate for each method, as {{'full': ..., 'lora': ...}}"
    if made["full"] == 3e-3:
        return ("full: 0.003 has the best single run (0.40) and a failed one (0.90); compare the "
                "means over seeds")
    if made["full"] == made["lora"]:
        return "both methods got the same rate; each is to be judged at its own"
    if not (near(made["full"], 1e-3) and near(made["lora"], 1e-2)):
        return f"{made}; expected 0.001 for full and 0.01 for lora"
