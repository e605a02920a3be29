# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 21 · Interview clinic
#
# **Claim: whoever knows the right sentences is ready for the interview.** It could be wrong. After
# this lesson you can
#
# - give an answer with its conditions, and prove it by a run of seconds;
# - find the cause of a broken run from its log, and repair it;
# - practise so that it stays: cards, a mock interview, a sheet to print.
#
# *It draws on all lessons; come back to it between them. About 30 minutes a visit; the code needs
# a minute on two CPU cores.*

# %%
import ftkit as ft
from ftkit.model import download

SEEDS = (0, 1, 2)
ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"LoRA does not forget. A falling loss is a healthy run. A smaller learning rate is the safe
# > choice. Which of the three would you sign?"*
#
# Each of them can be read in tutorials, and each sounds like an answer. An interviewer's next
# sentence is "how do you know?"
#
# ## An answer and its proof
#
# The bank holds questions with an answer, the conditions under which it is true, wrong answers that
# are often given, follow-ups and sources. Here is one.

# %%
from ftkit.interview import bank
from ftkit.interview.proofs import core

question = bank.find("states-7b")
ft.table([{"the": "question", "says": question.question},
          {"the": "answer", "says": question.answer},
          {"the": "usual mistake", "says": question.wrong[0]["answer"]}])

# %% [markdown]
# A **proof** finds the number by another road than the sentence: parameters counted by
# `transformers`, bytes weighed by `torch`, or a short fine-tune of `tiny`. It must hold, and it must
# break when the number is changed by a tenth; else it would prove nothing.

# %%
claim = core.prove(question.proofs[0])
assert claim.holds() and not any(changed.holds() for changed in claim.mutations())
core.draw(claim)

# %% [markdown]
# How much of the bank has a proof? The rest is judgment, and is scored by a rubric.

# %%
proved = [q for q in bank.questions() if q.proofs]
assert len(bank.questions()) >= 250 and len(proved) >= 115
ft.table([{"level": level, "questions": len(bank.questions(level)),
           "proved": sum(bool(q.proofs) for q in bank.questions(level))}
          for level in bank.LEVELS])

# %% [markdown]
# <!-- claims: C8 · E46 -->
# ## By hand: what does it cost?
#
# "Fine-tuning a 7B costs thousands." Training takes about 6 operations per parameter and token. At
# 40 % of an A100's 312 TFLOP/s, and two dollars an hour (an assumption: say so), the tokens decide.

# %%
N, SPEED, PRICE = 6.74e9, 0.4 * 312e12, 2.0


def dollars(tokens):
    return 6 * N * tokens / SPEED / 3600 * PRICE


hours = core.prove(bank.find("cost-7b").proofs[0]).left
assert abs(dollars(1e8) / PRICE - hours) < 0.01 * hours
ft.table([{"tokens": tokens, "dollars": dollars(tokens)} for tokens in (1e7, 1e8, 1e9, 1e10)])

# %% [markdown]
# So "thousands" is the price of continued pretraining with billions of tokens, or of many runs, not
# of one instruction tuning. The number is nothing without its three assumptions.
#
# ## Predict, run, read: three sentences
#
# **"LoRA does not forget."** A model that knows 31 tasks goes on with clauses of contracts alone,
# by LoRA at its own best rate.

# %%
lora = ft.predict("The loss on the 31 old tasks ...", "stays within 5 %", "rises by a half or more",
                  guess=...)
lora


# %%
def sides(name, id):
    """Left and right of a claim, one value for each seed."""
    stated = next(p for p in bank.find(id).proofs if p["proof"] == name)
    made = [core.prove(stated, seed) for seed in SEEDS]
    return [c.left for c in made], [c.right for c in made]


after, before = sides("lora_narrow", "lora-forgets")
ft.expect(after, ">", before, "LoRA forgot", times=1.5)
lora.score(lora.options[sum(after) > 1.25 * sum(before)])

# %% [markdown]
# What is true: LoRA changes fewer numbers, and can be taken out again. What it does to the function
# depends on the rate, as with full fine-tuning ([16](16_catastrophic_forgetting.ipynb)).
#
# **"A falling loss is a healthy run."** Full fine-tuning at ten times the best rate: what do the
# training loss and the loss on general text do?

# %%
falling = ft.predict("At ten times the best rate, the training loss ...",
                     "rises, so I would notice", "falls all the same", guess=...)
falling

# %%
late, early = sides("healthy_loss", "forgetting-before-divergence")
general, base = sides("general_at_ten", "forgetting-before-divergence")
ft.expect(late, "<", early, "the training loss fell")
ft.expect(general, ">", base, "and general text got much worse", by=0.5)
falling.score(falling.options[sum(late) < sum(early)])

# %%
ft.table([{"loss": "training", "first": early, "last": late},
          {"loss": "general text", "first": base, "last": general}])

# %% [markdown]
# **"A smaller rate is the safe choice."** Safe for what was known, yes. At a hundredth of the best
# rate, in the same number of steps:

# %%
low, best = sides("rate_too_low", "choose-rate")
ft.expect(low, ">", best, "next to nothing was learned", times=2)
ft.table([{"rate": "1e-5", "val_loss": low}, {"rate": "1e-3", "val_loss": best}])

# %% [markdown]
# None of the three can be signed as it stands, and each becomes right with its condition. That is
# what the answers in the bank train: *say what it depends on*.

# %% [markdown]
# ## By hand: when does a card come back?
#
# FSRS describes memory by a card's **stability** S: the days until you would know it with 90 %. The
# chance to know it after t days is (1 + f t / S)^d. A card is asked again when that has fallen to
# what is wanted.

# %%
from fsrs import Scheduler

decay = -Scheduler().parameters[20]
factor = 0.9 ** (1 / decay) - 1


def days_until(known, stability):
    return stability / factor * (known ** (1 / decay) - 1)


assert abs(days_until(0.9, 11.0) - 11.0) < 1e-9
{f"{known:.0%}": days_until(known, 11.0) for known in (0.95, 0.9, 0.8, 0.7)}

# %% [markdown]
# The same by `ft`, which replays all reviews through the `fsrs` package. A card that is known each
# time, asked on the day it is due:

# %%
from datetime import UTC, datetime

from ftkit.interview import cards

start = at = datetime(2026, 1, 1, tzinfo=UTC)
reviews = []
for _ in range(6):
    reviews.append({"card": "states-7b", "rating": 3, "at": at.isoformat()})
    card = cards.replay(reviews)["states-7b"]
    span, at = card.due - at, card.due
assert span.days == round(days_until(0.9, card.stability))
assert (at - start).days > 365
{"reviews": len(reviews), "days until the next": span.days, "since the first": (at - start).days}

# %% [markdown]
# Six looks carry a card through more than a year. That is why a few minutes a day are enough, and why
# rereading everything is not.
#
# ## The cards
#
# Type the number of a choice, or an amount with its unit (GB is not GiB), then rate yourself 1 to 4;
# `p` proves the answer. Exercises, predictions and bugs that you got wrong in the lessons come
# first. In a terminal: `ftkit drill`.

# %%
ft.drill(level="junior, mid")

# %% [markdown]
# How sure are you, and how often right? Say how sure before you answer; the chart counts it by
# topic, together with your predictions in the lessons.

# %%
from ftkit.lessons.claims import calibration

calibration()

# %% [markdown]
# ## The clinic
#
# Sixteen causes, each made live from a case number and shown by log and curves alone, as a
# colleague would send them. These are the suspects.

# %%
from ftkit.interview import clinic

clinic.causes()

# %% [markdown]
# The first case we do together.

# %%
case = clinic.case(3)
case

# %%
case.curves()

# %% [markdown]
# From the rate to the probes: does the rate peak, and where? Compare its last line with its first.
# General text is untouched, and val_loss still falls at the end. Which *single* cause explains that?

# %%
case.name("warmup_too_long")
case.repair(warmup_steps=2)

# %% [markdown]
# ## Break it: three for you
#
# Name the cause for `...`; a wrong name tells you what would be in the log then. Then say what you
# would change: options of Config for settings (`learning_rate=1e-3`), a stage of
# [`pipeline.py`](../ftkit/lessons/bugs/pipeline.py) for code (`"collate"`). The repaired run must meet the target.

# %%
second = clinic.case(1)
second.name(...)
second.repair(...)
second

# %%
second.curves()

# %%
third = clinic.case(9)
third.name(...)
third.repair(...)
third

# %%
fourth = clinic.case(0)
fourth.name(...)
fourth.repair(...)
fourth

# %% [markdown]
# ## What if?
#
# What if you propose the usual remedy, *train longer*, without looking at the log? It is the wrong
# repair for the case that we solved together.

# %%
longer = case.repair(max_steps=64)
assert not longer

# %% [markdown]
# There are twelve cases more, up to `clinic.case(15)`; higher numbers bring them again with other
# seeds. Whatever you name wrongly comes back as a card.
#
# ## The mock interview
#
# Answer aloud while the clock runs, then score yourself against the rubric; follow-ups unfold. The
# report names what to do again, and is kept as a page.

# %%
ft.drill(interview=True, minutes=20, questions=6)

# %% [markdown]
# ## A sheet to print, cards to take along
#
# The numbers on the sheet are computed while it is written, and a claim that does not hold here
# stops it. Print it to PDF from the browser. The cards go into Anki.

# %%
from ftkit.base import machine
from ftkit.interview import cheat_sheet

page = machine.home() / "cheat_sheet.html"
written = cheat_sheet.write(page, topic="memory")
exported = cards.export(machine.home() / "cards.csv")
ft.table([{"file": page.name, "questions": written}, {"file": "cards.csv", "questions": exported}])

# %% [markdown]
# ## On a real LLM
#
# An answer is worth what it says about models you have not seen. What share does LoRA with r=8 on q
# and v train of SmolLM2-135M? By hand from its shape, then counted.

# %%
if download.has("smollm2"):
    import peft

    model, _ = ft.load("smollm2")
    shape = model.config
    kv = shape.hidden_size // shape.num_attention_heads * shape.num_key_value_heads
    by_hand = 8 * (2 * shape.hidden_size + shape.hidden_size + kv) * shape.num_hidden_layers
    counted = peft.get_peft_model(model, peft.LoraConfig(
        r=8, target_modules=["q_proj", "v_proj"])).get_nb_trainable_parameters()
    assert counted[0] == by_hand
    print(f"{by_hand:,} of {counted[1]:,}: {by_hand / counted[1]:.2%}")

# %% [markdown]
# ## Exercises
#
# **1.** How many tokens does a budget buy? `parameters`, `flops` per second that are really reached,
# dollars an hour. A full fine-tune.


# %% tags=["raises-exception"]
def tokens_bought(budget, parameters, flops, dollars_per_hour):
    ...


ft.check("tokens_bought", tokens_bought)


# %% [markdown]
# **2.** Read a log. `rows` are dicts with `step`, `loss`, `learning_rate` and, in some, `val_loss`.
# Return `"diverged"` (a loss is not finite), `"warm-up"` (the rate still climbs at the end),
# `"overfitting"` (val_loss ends 5 % above its lowest) or `"fine"`, the first that fits.


# %% tags=["raises-exception"]
def triage(rows):
    ...


ft.check("triage", triage)

# %% [markdown]
# **3.** Would you sign it? `"true"`, `"false"` or `"depends"`.

# %% tags=["raises-exception"]
signed = {
    "LoRA forgets less than full fine-tuning.": "...",
    "Instruction tuning uses the same loss as pretraining.": "...",
    "QLoRA trains the 4-bit weights.": "...",
    "Padding with EOS makes a model that never stops.": "...",
    "ZeRO-3 divides the activations of a GPU.": "...",
    "A full copy of a 7B takes 13.5 GB in bf16.": "...",
}
ft.check("signed", signed)

# %% [markdown]
# ## Interview
#
# **You get a log and nothing else. Where do you look first?**
# <details><summary>Answer</summary>
# The rate column (does it peak, where?), the first loss against ln(vocabulary), here 8.03, tokens
# with loss, gradient norm, then val_loss against the training loss, and a probe the run never
# trained on. A falling training loss says least: at ten times the best rate it fell here while
# general text got far worse.
# </details>
#
# **What makes an answer good?**
# <details><summary>Answer</summary>
# The sentence, its condition, one number, and how you would check it. "Adam takes twice the model"
# becomes: two fp32 values a parameter, 8 bytes, 4 times bf16 weights; with master weights the
# optimizer holds 75 % of 16 bytes, as long as activations stay small.
# </details>
#
# **What does a full fine-tune of a 7B cost?**
# <details><summary>Answer</summary>
# 6 N D operations. 100 million tokens: 4.0e18, 9 A100 hours at 40 % utilisation, about 18 dollars at
# two dollars an hour. A thousand dollars buy 5.6 billion tokens. It depends on utilisation, price
# and how many runs precede the last.
# </details>

# %% [markdown]
# ## Recap
#
# - An answer is a sentence with its condition; a proof holds, and breaks when the claim is changed.
# - Read a log from the rate to the probes; name one cause that explains all of it; repair and rerun.
# - Cards at the right distance carry far: six reviews for a year.
#
# In the package: [`bank.jsonl`](../ftkit/interview/bank.jsonl), [`proofs.py`](../ftkit/interview/proofs/core.py),
# [`clinic.py`](../ftkit/interview/clinic.py). Next: your own question, in the
# [what-if lab](22_what_if_lab.ipynb).
