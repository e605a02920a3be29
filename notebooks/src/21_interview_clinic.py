# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 21 · Interview clinic: answers that survive the next question
#
# **Claim: whoever knows the right sentences is ready for the interview.** It could be wrong. After this
# lesson you can
#
# - build an answer from five parts, and prove a sentence by a run of seconds;
# - compute memory, throughput and utilization without looking anything up;
# - find the cause of a bad run in its log, and practice all of this so that it stays.
#
# *Draws on all lessons; come back to it between them. About 50 minutes; the code needs about 60 seconds on
# two CPU cores.*

# %%
import torch

import ftkit as ft
from ftkit.interview import bank, clinic
from ftkit.interview.proofs import core
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.bugs import pipeline
from ftkit.lessons.claims import direction

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"LoRA does not forget. A falling loss is a healthy run. A smaller learning rate is the safe choice.
# > Which of the three would you sign?"*
#
# Each sounds like an answer. The interviewer's next sentence is "How do you know?"
#
# ## The idea: five parts of an answer
#
# ![Five boxes, one below the other, each with an example and the question that it answers. Definition:
# what is it? Mechanism: why? Number: how much? Condition: always? Measurement: how do you know? The example
# is the memory of AdamW: two running means per trained weight, 8 bytes in fp32, 54 GB for a
# 7B model.](figures/21_answer.svg)
#
# Take the question "How much memory does a full fine-tune of a 7B model need?"
#
# | part | a weak answer says | a built answer says |
# |---|---|---|
# | definition | "a lot" | weights, gradients, optimizer states, then activations |
# | mechanism | | AdamW keeps two values per weight; mixed precision keeps an fp32 copy |
# | number | "about 28 GB" | 2 + 2 + 4 + 8 = 16 bytes per parameter: 108 GB for 6.74 billion |
# | condition | | before activations; all in bf16 it is 8 bytes, with LoRA about 14 GB |
# | measurement | | peak memory after the first optimizer step |
#
# Start with the number or the definition, in one sentence. Stop after a minute; the interviewer picks where
# to go deeper. If you do not know a part, say how you would find out.

# %% [markdown]
# ## A number and its proof
#
# The question bank has answers with conditions, wrong answers that are often given, follow-ups and
# sources. Many have **proofs**: a proof computes one claim of the answer in another way. Here
# `transformers` counts the parameters of Llama-2-7B from its shape, and `torch` the bytes of each type.

# %%
question = bank.find("states-7b")
claim = core.prove(question.proofs[0])
print(question.question, question.answer, sep="\n\n")
core.draw(claim)

# %% [markdown]
# A proof covers *one claim* of an answer. In a terminal `ftkit drill --prove states-7b` runs the
# proofs of a question.
#
# ## Your turn: arithmetic without a computer
#
# Do these on paper, then enter the results. Use 6.74 billion parameters for "7B", and decimal gigabytes.

# %% tags=["raises-exception"]
memory_drill = {
    # GB of weights, gradients and AdamW states; bf16 with an fp32 master copy and fp32 states
    "full, mixed precision": ...,
    # the same with everything in bf16, AdamW's two states too
    "full, pure bf16": ...,
    # frozen bf16 base, and 20 million adapter parameters with 16 bytes each
    "LoRA": ...,
    # KV cache of one sequence of 4,096 tokens, in a model with grouped-query attention:
    # 32 layers, 8 KV heads of size 128, bf16
    "KV cache": ...,
}
ft.check("memory_drill", memory_drill)

# %% [markdown]
# ## Check it at the first step
#
# AdamW creates its states in the *first* `optimizer.step()`. So a job can load its model, run forward and
# backward, and still run out of memory at the end of step one. We count bytes per parameter.

# %%
bytes_bf16 = ft.predict("A model in bf16, torch's AdamW: weights, gradients and states together, after the "
                        "first step?", "about 4 bytes per parameter", "about 8 bytes per parameter",
                        "about 12 bytes per parameter", "about 16 bytes per parameter")
bytes_bf16


# %%
def size(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


def bill(model, optimizer):
    """Bytes per parameter of weights, gradients and optimizer states."""
    weights = list(model.parameters())
    states = [value for state in optimizer.state.values() for value in state.values()]
    held = {"weights": weights, "gradients": [p.grad for p in weights if p.grad is not None],
            "states": states}
    count = sum(p.numel() for p in weights)
    return {name: round(size(tensors) / count, 2) for name, tensors in held.items()}


# %%
rows = []
for dtype in (torch.float32, torch.bfloat16):
    model = ft.load("tiny")[0].to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = torch.arange(32).view(2, 16)
    rows.append({"type": str(dtype), "when": "loaded"} | bill(model, optimizer))
    model(input_ids=ids, labels=ids).loss.backward()
    rows.append({"type": str(dtype), "when": "after backward"} | bill(model, optimizer))
    optimizer.step()
    rows.append({"type": str(dtype), "when": "after the first step"} | bill(model, optimizer))
ft.table(rows)

# %%
total = rows[-1]["weights"] + rows[-1]["gradients"] + rows[-1]["states"]
bytes_bf16.score("about 4 bytes per parameter" if total < 6 else
                 "about 8 bytes per parameter" if total < 10 else
                 "about 12 bytes per parameter" if total < 14 else "about 16 bytes per parameter")

# %% [markdown]
# fp32 gives 4 + 4 + 8 = 16 bytes. All in bf16 gives 2 + 2 + 2 + 2 = 8, because torch's AdamW makes its
# states in the type of the weights. That is cheap, but small updates are lost to rounding
# ([lesson 12](12_floating_point.ipynb)). Mixed precision with an fp32 master copy has 2 + 2 + 4 + 8 = 16,
# and autocast over fp32 weights 4 + 4 + 8 = 16 as well, plus temporary bf16 copies. So "mixed precision
# halves the memory of training" is wrong for these parts. It saves activations and time.
#
# ## Your turn: tokens, MFU and recomputation
# <!-- claims: C8 · E46 -->
#
# If *all* weights are trained, training takes about 6·N·D operations for N parameters and D tokens: 2 forward
# and 4 backward per parameter and token. With a frozen base (LoRA) it is about 4, because the gradient of the
# frozen weights is not computed: an MFU computed with 6 would be 1.5 times too high. For long sequences
# attention comes on top.
#
# **Model FLOPs utilization** (MFU) is the useful operations per second divided by the peak of the hardware.
# Full checkpointing runs the forward pass twice, so the hardware does 8 operations for 6, a third more. With a
# frozen base it does 6 for 4, half more. **Hardware FLOPs utilization** (HFU) counts these, MFU does not:
# recomputed work is not useful work.

# %% tags=["raises-exception"]
def throughput(parameters, batch, accumulation, devices, length, seconds, peak, recompute):
    """Return (tokens per optimizer step, MFU, HFU) of a run that trains all weights.

    batch: sequences per device and forward pass. length: tokens per sequence. seconds: of one
    optimizer step. peak: operations per second of one device. recompute: True with full
    checkpointing."""
    ...


ft.check("throughput", throughput)

# %% [markdown]
# Costs follow from it. A full fine-tune of a 7B on 100 million tokens takes 6 · 6.74e9 · 1e8 = 4.0e18
# operations. At 40 % MFU these are 9.0 GPU hours of an A100 (312 TFLOP/s in bf16) or 2.8 of an H100 (989
# TFLOP/s).

# %% [markdown]
# ## Three sentences, three runs
#
# All runs here are on the small model with 2.4 million parameters. They show what *can* happen.
#
# **"LoRA does not forget."** A model that knows 31 tasks is trained on contract clauses alone, by LoRA at
# its own learning rate.

# %%
forgets = ft.predict("After the LoRA run, the loss on the 31 old tasks is ...", "lower", "higher",
                     "no difference seen")
forgets


# %%
def sides(name, id, seeds=SEEDS):
    """Left and right side of a claim of question `id`, one value for each seed."""
    stated = next(p for p in bank.find(id).proofs if p["proof"] == name)
    proved = [core.prove(stated, seed) for seed in seeds]
    return [c.left for c in proved], [c.right for c in proved]


# %%
after, before = sides("lora_narrow", "lora-forgets")
ft.expect(after, ">", before, "LoRA forgot", paired=True)
ft.table([{"seed": s, "before": before[s], "after": after[s]} for s in SEEDS])

# %%
words = {"<": "lower", ">": "higher", "": "no difference seen"}
forgets.score(words[direction(after, before, paired=True)])

# %% [markdown]
# So a LoRA run *can* forget. The frozen base is still there, but what answers is base plus adapter. Is it
# less than with full fine-tuning? In one study of code and mathematics LoRA learned less and forgot less
# ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673)). Compare at equal learning, with a tuned
# learning rate for each ([lesson 16](16_catastrophic_forgetting.ipynb)).
#
# **"A falling loss is a healthy run."** Full fine-tuning on the tasks for 24 steps at learning rate 1e-2, ten
# times the best:

# %%
falling = ft.predict("At ten times the best learning rate, the training loss at the end is ...",
                     "lower than at the start", "higher than at the start", "no difference seen")
falling

# %%
five = [0, 1, 2, 3, 4]  # the loss of a single step is noisy, so it is not paired either
late, early = sides("healthy_loss", "forgetting-before-divergence", five)
general, base = sides("general_at_ten", "forgetting-before-divergence", five)
_, at_best = sides("rate_too_high", "choose-rate", five)  # general text after a run at 1e-3
ft.expect(late, "<", early, "the training loss fell")
ft.expect(general, ">", at_best, "the loss on general text is higher than at 1e-3", paired=True)
ft.table([{"seed": s, "training, first step": early[s], "training, last 3 steps": late[s],
           "general text before": base[s], "after, at 1e-2": general[s],
           "after, at 1e-3": at_best[s]} for s in five])

# %%
falling.score({"<": "lower than at the start", ">": "higher than at the start",
               "": "no difference seen"}[direction(late, early)])

# %% [markdown]
# The training loss fell, while the loss on general text rose from 0.82 to about 7.5.
#
# **"A smaller learning rate is the safe choice."** Safe for what the model knew. At a hundredth of the best
# learning rate, in the same number of steps:

# %%
low, best = sides("rate_too_low", "choose-rate")
ft.expect(low, ">", best, "validation loss at a hundredth of the best learning rate", paired=True)
ft.table([{"seed": s, "val_loss at 1e-5": low[s], "val_loss at 1e-3": best[s]} for s in SEEDS])

# %% [markdown]
# None of the three sentences is true as it stands. What you can sign:
#
# - LoRA often forgets less, at less learning. It does not forget nothing.
# - A training loss that falls says that the model fits these records. For a healthy run look at
#   validation and general loss too.
# - In the same number of steps a smaller learning rate protects old knowledge. *Below the best one* it also
#   learns less of the new.
#
# ## Your turn: would you sign it?
#
# Enter `"true"`, `"false"` or `"depends"`.

# %% tags=["raises-exception"]
signed = {
    "LoRA forgets less than full fine-tuning.": "...",
    "Instruction tuning uses the same loss function as pretraining.": "...",
    "QLoRA trains the 4-bit weights.": "...",
    "Padding with EOS makes a model that never stops.": "...",
    "ZeRO-3 divides the activations of a GPU.": "...",
    "The weights of Llama-2-7B take 13.5 GB in bf16.": "...",
}
ft.check("signed", signed)

# %% [markdown]
# ## At 135M
#
# The second sentence on SmolLM2-135M: full fine-tuning at 0.001, ten times the best of the three learning
# rates that were recorded.

# %%
recorded = ft.recorded("full_finetune")
ft.table([{"seed": run.config.seed, "training, first 5 steps": sum(r["loss"] for r in run.rows[:5]) / 5,
           "training, last 5 steps": sum(r["loss"] for r in run.rows[-5:]) / 5,
           "plain English before": run.before["english_loss"],
           "plain English after": run.after["english_loss"]}
          for run in recorded.arms["full 0.001"]])

# %%
at_135m("full_finetune")

# %% [markdown]
# The training loss fell in each run, and the loss on plain English rose in each.
#
# ## Read a log
#
# You get a log and two minutes. Read it in a fixed order:
#
# 1. Is every loss finite? By default the Trainer of `transformers` hides nan and inf: it counts such a
#    loss as about the mean of those since the last log line, or less; right after one as 0. Set
#    `logging_nan_inf_filter=False`, and look at `grad_norm`, which does show nan.
# 2. Is there a loss at all? Exactly 0 from the first step means that no token is trained on, or a hidden nan.
# 3. Is the first loss near that of the *untouched* model on such text? For a pretrained model that is a
#    few nats at most: SmolLM2 above starts at 3. Near ln(vocabulary), 11.9 for Qwen3, or above it, suspect
#    weights that were not loaded or labels shifted twice. Only a model that never saw the format, like our
#    small one, may start there. A wrong template may hardly change this loss.
# 4. Does the learning rate peak before the end? If not, and it is not constant, the warm-up is longer than the
#    run.
# 5. Does `val_loss` end above its lowest value? Then see [lesson 17](17_overfitting.ipynb).
#
# ## Your turn: triage

# %% tags=["raises-exception"]
def triage(rows, expected):
    """Return the first that fits: "diverged" (a loss is not finite), "nothing trained" (the first loss
    is 0), "bad start" (the first loss is more than 1.2 × expected), "warm-up" (the learning rate is
    not constant and highest at the last step), "overfitting" (the last val_loss is more than 5 %
    above the lowest) or "fine".

    rows: dicts with step, loss, learning_rate and, in some, val_loss. expected: the loss of the
    untouched model on such text."""
    ...


ft.check("triage", triage)

# %% [markdown]
# ## The clinic
#
# Here are the causes that a case may have. The first case we solve together.

# %%
clinic.causes()

# %%
number = next(n for n in range(100) if clinic.fault_of(n) == "warmup_too_long")
case = clinic.case(number)
case

# %%
case.curves()

# %% [markdown]
# All losses are finite. The first one is near that of guessing (ln 3072 = 8.03). For this
# model that is expected (rule 3). The learning rate still rises in
# the last line. `val_loss` falls until the end, slowly at first, and `general_loss` is unchanged. *One* cause
# explains all of this: the warm-up is longer than the run. The repaired run is
# trained and must meet the target.

# %%
case.name("warmup_too_long")
case.repair(warmup_steps=2)

# %% [markdown]
# ## What if?
#
# A usual remedy is "train longer". Twice the steps, with the same warm-up of 500:

# %%
longer = case.repair(max_steps=64)

# %% [markdown]
# It misses the target, although it lowers the loss. Now two cases for you. Replace `...` by a name from the
# table. Then repair: an option of Config for a case of settings (`learning_rate=1e-3`), a stage of
# [`pipeline.py`](../ftkit/lessons/bugs/pipeline.py) for a case of code (`"collate"`). A wrong name is
# answered with what the log would show then. In cases of code `label_share` is the fraction of tokens that
# are trained on, `stops` the fraction of answers that end, and `new_loss` the loss on new records.

# %%
second = clinic.case(9)
second.name(...)
second.repair(...)
second

# %%
print("stages:", ", ".join(pipeline.STAGES))
third = clinic.case(8)
third.name(...)
third.repair(...)
third

# %% [markdown]
# <details><summary>Answers to cases 9 and 8</summary>
# Case 9, `sgd`: the learning rate is a usual one and peaks early, the gradient norm stays as high as at the
# start, and the losses hardly move. Plain SGD does not scale the steps as AdamW does, so they are too small:
# `optim="adamw_torch"`.
#
# Case 8, `gradients_kept`: the gradient norm grows at every step while the loss jumps up and down. Each
# step adds its gradient to all earlier ones. The first loss and `label_share` are normal, so the labels are
# not the cause. The stage is `"clear_gradients"`.
# </details>
#
# `clinic.case(n)` has more cases. In each, first say aloud: what I see, which causes explain *all* of it,
# which single test separates them.
#
# The next cases, of 38 causes, show less: some records, three answers and a log. Ask for the reading that
# decides. In a terminal: `ftkit drill --clinic`.

# %%
ft.drill(clinic=True)

# %% [markdown]
# ## Cards, and when they come back
#
# Say the answer aloud, then look, then rate yourself 1 to 4. Your misses from the lessons are cards too.
# In a terminal: `ftkit drill`; `--cheat-sheet FILE` writes a page to print and `--export FILE` cards for the
# program Anki.

# %%
ft.drill(level="junior, mid")

# %% [markdown]
# FSRS (Free Spaced Repetition Scheduler) chooses the day of the next review: you would, by its model of
# memory, still know the card with a probability of 90 %. That spaced practice beats one long evening is
# known from experiments ([Cepeda et al. 2006](https://doi.org/10.1037/0033-2909.132.3.354)).
#
# ## The mock interview
#
# It has four rounds: concept (here six questions), coding, design and story (one task each). Answer aloud or in
# writing while the clock of a question runs. Then read the model answer and mark what you said. In a terminal:
# `ftkit drill --interview --questions 6`.

# %%
ft.drill(interview=True, questions=6)

# %% [markdown]
# ## Story and design questions
#
# "Tell me about a fine-tune that failed." Prepare two true stories of two minutes each:
#
# | part | say |
# |---|---|
# | goal and baseline | what the model was for, the metric, what a prompted model reached |
# | symptom | what you saw, in numbers, and where |
# | hypotheses | two or three causes, and the test that separated them |
# | result | what changed, with its uncertainty; also "we did not ship" |
# | since then | what you do differently: a check, a split, a report |
#
# For a design question ("build a support assistant") ask first: users, metric, data, latency, budget, risk.
# Then go through baseline (prompt, retrieval), data and split, method and memory, evaluation, cost,
# rollout and monitoring.

# %% [markdown]
# ## In practice, 2026
#
# | hardware | memory | dense bf16 peak |
# |---|---|---|
# | A100 | 40 or 80 GB | 312 TFLOP/s |
# | H100 SXM | 80 GB | 989 TFLOP/s |
# | H200 | 141 GB | 989 TFLOP/s |
# | B200 | 180 GB | 2,250 TFLOP/s |
# | MI300X | 192 GB | 1,307 TFLOP/s |
#
# Dense means without structured sparsity; brochures often print the sparse value, twice as high.
#
# A configuration that you can defend line by line, with the check of the first step:
#
# ```python
# # {"prompt": "...", "completion": "..."}
# import torch
# from datasets import load_dataset
# from peft import LoraConfig
# from transformers import TrainerCallback
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B"
#
#
# class FirstStep(TrainerCallback):
#     def on_step_end(self, args, state, control, **kwargs):
#         if state.global_step == 1 and torch.cuda.is_available():
#             print(f"peak after step 1: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
#
#
# files = {"train": "train.jsonl", "validation": "validation.jsonl"}  # test.jsonl: once, at the end
# data = load_dataset("json", data_files=files)
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=data["train"],
#     eval_dataset=data["validation"],
#     callbacks=[FirstStep()],
#     peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#     args=SFTConfig(
#         output_dir="defended", seed=0,
#         learning_rate=2e-4,               # about ten times that of full fine-tuning
#         num_train_epochs=2,               # more: watch a task metric
#         eval_strategy="steps", eval_steps=50,  # the default evaluates nothing
#         logging_nan_inf_filter=False,     # the log shows nan
#         per_device_train_batch_size=4, gradient_accumulation_steps=8,  # 32 sequences per step
#         max_length=2048,                  # from the lengths of the data, cut records counted
#         completion_only_loss=True,        # the prompt has the label -100: no loss there
#         bf16=True, model_init_kwargs={"dtype": "bfloat16"},  # base: 2 bytes; TRL's default is float32
#         gradient_checkpointing=True,      # with a frozen base half more compute; fewer activations
#         max_grad_norm=1.0, warmup_steps=10, lr_scheduler_type="cosine",
#         include_num_input_tokens_seen="non_padding",  # for tokens per second without padding
#     ),
# )
# trainer.train()
# ```

# %% [markdown]
# Pitfalls:
#
# - The first step is not the peak if a later batch is longer. Try the longest records first.
# - `max_memory_allocated` counts torch's tensors. `nvidia-smi` also counts the cache and the CUDA context.
# - GB or GiB: 107.8 GB are 100.4 GiB. An "80 GB" card has about 80 GiB, which are 86 GB.
# - Llama 3 405B was pretrained at 38 to 43 % MFU ([Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)).
#   Measure your own.
#
# ## Interview
#
# **You get a log and nothing else. Where do you look first?**
# <details><summary>Answer</summary>
# Finite losses first, and whether the logger hides nan. Then the first loss against that of the untouched
# model on such text: near ln(vocabulary) perhaps no weights were loaded, or labels are shifted twice. Then
# the learning rate (does it peak, and where?), gradient norms, the number of trained tokens, validation
# against training loss, and a measure that the run never trained on. I ask for one decoded batch with its
# labels, and compare the prompt at inference with it. I name one cause that explains all of it, and the test
# that would refute it.
# </details>
#
# **What does a full fine-tune of a 7B cost?**
# <details><summary>Answer</summary>
# About 6·N·D operations for N parameters and D tokens if all weights are trained, 4·N·D with a frozen base;
# attention on top for long sequences. For 100 million tokens 6·N·D is 4.0e18: 9 GPU hours of an A100 or 2.8
# of an H100 at 40 % MFU, if tuned well. At an assumed 2 to 3 dollars an hour that is 6 to 27 dollars a run.
# Full checkpointing adds up to a third if that MFU was measured without it. The states need 108 GB in mixed
# precision: more than one such card, so they are sharded or in another format. The number of runs, evaluation
# and people usually cost more.
# </details>

# %% [markdown]
# **The model loads, forward and backward run, and the job dies at the end of the first step. Why?**
# <details><summary>Answer</summary>
# The optimizer creates its states in the first step: for AdamW two values per trained parameter, 8 bytes in
# fp32. The `foreach` implementation, torch's default on CUDA, also needs temporary memory of about the size
# of the parameters; `fused=True` does not. Other remedies: 8-bit states, sharding (ZeRO or FSDP), LoRA, or
# states on the CPU (offloading). The activations are freed by then, so a smaller batch helps little.
# </details>
#
# ## Recap
#
# The claim is wrong: all three sentences sounded right, and the first follow-up question refuted each.
#
# - An answer has a definition, a mechanism, a number, a condition and a measurement.
# - Mixed precision is 16 bytes per trained parameter, pure bf16 8; the states appear at the first step.
# - Training is 6·N·D operations if all weights are trained; compare a first loss with the untouched model.
# - Read a log in a fixed order; name one cause for all of it, repair, run again.
# - Practice aloud, spaced, and scored by what you really said.
#
# Next: your own question, in the [what-if lab](22_what_if_lab.ipynb).

# %%
ft.progress("21")
