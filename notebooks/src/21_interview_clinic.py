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
# **Claim: whoever knows sentences that sound right is ready for the interview.** It could be wrong.
# After this lesson you can
#
# - build an answer from five parts, and test a sentence by a run of seconds;
# - compute memory, throughput and utilization without looking anything up;
# - find the cause of a bad run in its log.
#
# *Draws on all lessons; come back to it between them. About 45 minutes without the drills; the code needs
# about 60 seconds on two CPU cores. More on serving, a judge of your own and story questions:
# [reference page](reference/21_interview_clinic.md).*

# %%
import torch

import ftkit as ft
from ftkit.inside import bank, clinic, pipeline, proofs
from ftkit.teaching import at_135m, direction

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# Your interview is on Friday. The interviewer reads three sentences from your own notes:
#
# > *"LoRA does not forget. A falling loss is a healthy run. A smaller learning rate is the safe choice.
# > Which of the three would you sign?"*
#
# The interviewer's next sentence is "How do you know?"
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
# Start with the definition or the number, and stop after a minute.

# %% [markdown]
# ## A number and its proof
#
# Many answers of the question bank have a **proof**: a computation that reaches one claim of the answer in
# another way. Here `transformers` counts the parameters of Llama-2-7B from its shape, and `torch` the bytes of
# each type.

# %%
question = bank.find("states-7b")
print(question.question, question.answer, sep="\n\n")
proofs.draw(proofs.prove(question.proofs[0]))

# %% [markdown]
# ## Your turn: arithmetic without a computer
#
# Use 6.74 billion parameters for "7B", and decimal gigabytes.

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
# AdamW creates its states in the *first* `optimizer.step()`. How many bytes per parameter does that step add to
# a model all in bf16?

# %%
model = ft.load("tiny")[0].to(torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
parameters, ids = list(model.parameters()), torch.arange(32).view(2, 16)


def bytes_per_parameter():
    parts = {"weights": parameters, "gradients": [p.grad for p in parameters],
             "states": [v for state in optimizer.state.values() for v in state.values()]}
    count = sum(p.numel() for p in parameters)
    return {name: round(sum(t.nbytes for t in held) / count, 2) for name, held in parts.items()}


model(input_ids=ids, labels=ids).loss.backward()
rows = [{"when": "after backward"} | bytes_per_parameter()]
optimizer.step()
ft.table([*rows, {"when": "after the first step"} | bytes_per_parameter()])

# %% [markdown]
# All in bf16 it is 2 + 2 + 4 = 8 bytes, because torch's AdamW makes its states in the type of the weights.
# The price is that small updates are lost to rounding ([lesson 12](12_floating_point.ipynb)). Mixed precision
# takes 16 bytes: 2 + 2 + 4 + 8 with an fp32 master copy, or 4 + 4 + 8 with fp32 weights and autocast (the
# Trainer's `bf16=True`). It saves activations and time, not these parts.
#
# ## Your turn: tokens, MFU and recomputation
# <!-- claims: C8 · E46 -->
#
# If *all* weights are trained, training takes about 6·N·D operations for N parameters and D tokens: 2 in the
# forward and 4 in the backward pass. With a frozen base (LoRA) it is about 4, because the gradients of the
# frozen weights are not computed.
#
# **Model FLOPs utilization** (MFU) is these useful operations per second, divided by the peak of the hardware.
# Full checkpointing runs the forward pass twice, so the hardware does 8 operations for 6.
# **Hardware FLOPs utilization** (HFU) counts all 8.

# %% tags=["raises-exception"]
def throughput(parameters, batch, accumulation, devices, length, seconds, peak, recompute):
    """Return (tokens per optimizer step, MFU, HFU) of a run that trains all weights.

    batch: sequences per device and forward pass. length: tokens per sequence. seconds: of one
    optimizer step. peak: operations per second of one device. recompute: True with full
    checkpointing."""
    ...


ft.check("throughput", throughput)

# %% [markdown]
# ## Three sentences, two experiments
#
# All runs here are on the small model (2.4 million parameters): they show what *can* happen.
#
# **"LoRA does not forget."** A model that knows 31 tasks is trained on contract clauses alone, by LoRA at
# its own learning rate. The bank has a proof for it: the loss on the 31 old tasks, after (`left`)
# and before (`right`).

# %%
stated = next(p for p in bank.find("lora-forgets").proofs if p["proof"] == "lora_narrow")
claims = [proofs.prove(stated, seed) for seed in range(3)]
ft.expect([claim.left for claim in claims], ">", [claim.right for claim in claims], "LoRA forgot",
          paired=True)

# %% [markdown]
# So a LoRA run *can* forget. The frozen base is still there, but what answers is base plus adapter. Does it
# forget less than full fine-tuning? See [lesson 16](16_catastrophic_forgetting.ipynb).
#
# **"A falling loss is a healthy run."** **"A smaller learning rate is the safe choice."** One experiment
# tests both: full fine-tuning on the tasks for 24 steps at 0.001, the best rate of lesson 01, at ten times that
# and at a hundredth of it.

# %%
falling = ft.predict("At ten times the best learning rate, the training loss at the end is ...",
                     "lower than at the start", "higher than at the start", "no difference seen")
falling

# %%
lab = ft.Experiment(data=ft.records("tasks")[:512], val="tasks", eval_records=32)
runs = {f"learning rate {rate:g}": [
    lab.run(learning_rate=rate, max_steps=24, eval_steps=8, seed=seed, precision="fp32", live=False)
    for seed in range(4)] for rate in (1e-5, 1e-3, 1e-2)}
ft.curves(runs, "loss", "val_loss", "general_loss")

# %%
low, best, high = runs.values()
first = [run.rows[0]["loss"] for run in high]
last = [sum(row["loss"] for row in run.rows[-3:]) / 3 for run in high]
ft.expect(last, "<", first, "at 0.01 the training loss fell")
for group, key, claim in ((high, "general_loss", "at 0.01 it forgot more than at 0.001"),
                          (low, "val_loss", "at 0.00001 it learned less than at 0.001")):
    ft.expect([run.after[key] for run in group], ">", [run.after[key] for run in best], claim,
              paired=True)
falling.score({"<": "lower than at the start", ">": "higher than at the start",
               "": "no difference seen"}[direction(last, first)])

# %% [markdown]
# At 0.01 the training loss fell, and the loss on general text rose several times over: a falling loss, and a ruined
# model. At 0.00001 the general loss stayed where it was, and `val_loss` hardly fell: nothing lost, little learned.
#
# What you can sign instead:
#
# - LoRA often forgets less, sometimes because it learns less.
# - A training loss that falls says that the model fits the records it trains on better.
# - In the same number of steps a smaller learning rate usually protects old knowledge. *Below the best one*
#   it also learns less of the new.
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
# The second sentence on SmolLM2-135M: does a training loss fall while the loss on plain English rises?

# %%
ft.curves(ft.recorded("full_finetune").arms, "loss", "english_loss")

# %%
at_135m("full_finetune")

# %% [markdown]
# Yes, at each learning rate, and the English loss rises most at 0.001. The smallest of these rates is best in all
# the losses; going lower still costs too ([lesson 07](07_learning_rate.ipynb)). Answer aloud in five parts: is a
# smaller learning rate the safe choice?
#
# <details><summary>One answer in five parts</summary>
# <b>Definition:</b> the learning rate scales every update. <b>Mechanism:</b> in the same number of steps, smaller
# updates usually leave the weights nearer to where they started, so less is overwritten and less is learned.
# <b>Number:</b> 40 steps of full fine-tuning moved the loss of SmolLM2-135M on plain English from 3.25 to 4.52
# at 0.001, to 3.31 at 0.0001 (3 seeds). <b>Condition:</b> safer for old knowledge at equal steps; below the best
# learning rate, worse at the new task. <b>Measurement:</b> validation loss and loss on general text at several
# learning rates and seeds.
# </details>
#
# ## Read a log
#
# You get a log and two minutes. Read it in a fixed order:
#
# 1. Is every loss finite? By default the Trainer of `transformers` logs other numbers in place of nan and inf.
#    Set `logging_nan_inf_filter=False`, and look at `grad_norm`, which does show nan.
# 2. Is there a loss at all? Exactly 0 from the first step (by that filter, or in TRL 1.16 by its
#    own rule), or nan: suspect that no token is trained on. TRL 1.16 also drops records whose answer was
#    cut away: count them.
# 3. Is the first loss near that of the *untouched* model on such text? Measure it
#    (SmolLM2-135M: about 5). Near ln(vocabulary), 11.9 for Qwen3, or above it, suspect weights
#    that were not loaded or labels shifted twice. The exception is our small model: it never saw this
#    format, so it may start there.
# 4. Does the learning rate peak before the end? If not, and it is not constant, the warm-up is longer than the
#    run.
# 5. Does `grad_norm` settle? If it grows at every step, or stays high while no loss moves, suspect the
#    gradients or the optimizer.
# 6. Does `val_loss` end above its lowest value? Then see [lesson 17](17_overfitting.ipynb).
#
# If the log does not decide, decode one batch with its labels, and train on that batch alone. If its loss does
# not approach 0, suspect the code or the learning rate.
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
# A case is a run with one fault, from this list. The first case we solve together.

# %%
clinic.causes()

# %%
case = clinic.case(3)
case

# %%
case.curves()

# %% [markdown]
# All losses are finite. The first one is near that of guessing (ln 3072 = 8.03), as expected for this
# model (rule 3). The learning rate still rises in the last line. `val_loss` falls until the end, and
# `general_loss` is unchanged. *One* cause explains all of it: the warm-up is longer than the run.

# %%
case.name("warmup_too_long")
case.repair(warmup_steps=2)

# %% [markdown]
# ## What if?
#
# Was the run too short? Twice the steps, with the same warm-up of 500 steps:

# %%
longer = case.repair(max_steps=64)

# %% [markdown]
# No: with a short warm-up 32 steps were enough.
#
# Now you. Replace `...` by a name from the table. Then repair: an option of Config for a case of settings
# (`learning_rate=1e-3`), a stage of [`pipeline.py`](../ftkit/lessons/bugs/pipeline.py) for a case of code
# (`"collate"`). In the case of code `label_share` is the fraction of tokens that are trained on, `stops` the
# fraction of answers that end, `new_loss` the loss on test records. `last_loss` and `grad_norm` are means of the
# last four steps.

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
# Case 9, `optimizer_changed`: the learning rate is usual for this model and peaks early, the gradient norm
# stays as high as at the start, and the losses hardly move. The steps of plain SGD are too small here: `optim="adamw_torch"`.
#
# Case 8, `gradients_kept`: the gradient norm grows at every step while the loss jumps up and down. Each
# step adds its gradient to all earlier ones. The stage is `"clear_gradients"`.
# </details>
#
# Now cases as a colleague sends them, with 38 possible causes. Buttons show further measurements, the
# *readings*. Ask for the one that decides, then type the cause.

# %%
ft.drill(clinic=True)

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
# Brochures often print the value with structured sparsity, twice as high.
# Llama 3 405B was pretrained at 38 to 43 % MFU ([Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)).
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
# model_id = "Qwen/Qwen3-1.7B-Base"  # plain strings; a chat model needs its template
#
#
# class FirstStep(TrainerCallback):
#     def on_step_end(self, args, state, control, **kwargs):
#         if state.global_step == 1 and torch.cuda.is_available():
#             print(f"peak after step 1: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
#
#
# # test.jsonl is not loaded here: use it once, at the end
# data = load_dataset("json", data_files={"train": "train.jsonl", "validation": "validation.jsonl"})
# trainer = SFTTrainer(
#     model=model_id, train_dataset=data["train"], eval_dataset=data["validation"],
#     callbacks=[FirstStep()],
#     peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#     args=SFTConfig(
#         output_dir="defended", seed=0,
#         num_train_epochs=2, learning_rate=2e-4,  # about ten times that of full fine-tuning
#         eval_strategy="steps", eval_steps=50,  # the default evaluates nothing
#         logging_nan_inf_filter=False,     # the log shows nan
#         per_device_train_batch_size=4, gradient_accumulation_steps=8,  # 32 sequences per step
#         max_length=2048,                  # from the lengths of the data; count cut records
#         completion_only_loss=True,        # the prompt has the label -100: no loss there
#         bf16=True, model_init_kwargs={"dtype": "bfloat16"},  # base: 2 bytes; TRL's default is float32
#         gradient_checkpointing=True,      # with a frozen base half more compute; fewer activations
#         max_grad_norm=1.0, warmup_steps=10, lr_scheduler_type="cosine",
#     ),
# )
# trainer.train()
# ```

# %% [markdown]
# The first step is not the peak if a later batch is longer. Try the longest records first. `nvidia-smi` shows more
# than this peak ([lesson 09](09_where_the_memory_goes.ipynb)).
#
# ## Interview
#
# **You get a log and nothing else. Where do you look first?**
# <details><summary>Answer</summary>
# Finite losses first, and whether the logger hides nan. Then the first loss against that of the untouched
# model, the learning rate, gradient norms, validation against training loss, and a measure that the run never
# trained on. I ask for one decoded batch with its labels. I name one cause that explains all of it, and the
# test that would refute it.
# </details>
#
# **What does a full fine-tune of a 7B cost?**
# <details><summary>Answer</summary>
# About 6·N·D operations if all weights are trained, 4·N·D with a frozen base; attention on top for long
# sequences. For 100 million tokens 6 · 6.74e9 · 1e8 is 4.0e18: at an assumed 40 % MFU (padding lowers it) 9 GPU
# hours of an A100, or 2.8 of an H100. At an assumed 2 to 3 dollars an hour for either, it is 6 to 27 dollars a
# run. The states need 108 GB in mixed precision, more than one such card. The number of runs, evaluation and
# people usually cost more.
# </details>

# %% [markdown]
# ## Cards, and when they come back
#
# A card asks one question of the bank. Say the answer aloud, then look. Exercises and guesses that you got wrong
# become cards too.

# %%
ft.drill(level="junior, mid")

# %% [markdown]
# FSRS (Free Spaced Repetition Scheduler) chooses the day of the next review: spaced practice beats one long
# evening ([Cepeda et al. 2006](https://doi.org/10.1037/0033-2909.132.3.354)).
#
# ## The mock interview
#
# For a design question ("build a support assistant") ask first: users, metric, data, latency, budget, risk. Then
# baseline, data and split, method and memory, evaluation, cost, rollout and monitoring. For "tell me about a fine-tune
# that failed" prepare two true stories of two minutes ([their parts](reference/21_interview_clinic.md)). Then six questions on concepts, coding, design and story.
# A friend judges best (`ftkit drill --interview --partner`); a model of yours can judge, too (reference page).

# %%
ft.drill(interview=True, questions=6)

# %% [markdown]
# How many days are left? `ft.progress("interview", days=14, minutes=45)` shows what to do on each of them.
#
# ## Recap
#
# The claim is wrong: all three sentences sounded right. A few runs refuted two, and the third needs a condition.
#
# - An answer has a definition, a mechanism, a number, a condition and a measurement.
# - AdamW in mixed precision needs 16 bytes per trained parameter, in pure bf16 8; its states appear at the
#   first step.
# - Read a log in a fixed order; name one cause for all of it, repair, run again.
#
# Next: your own question, in the [what-if lab](22_what_if_lab.ipynb).

# %%
ft.progress("21")
