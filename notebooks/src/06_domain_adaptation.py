# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Domain adaptation: continued pretraining, and the control that is often left out
#
# **Claim to test: continued pretraining on text of a domain helps a task of this domain when labels are
# few, and the reason is the domain, not the additional training.** A comparison with the base model
# tests only the first half. The second half needs a control. After this lesson you can
#
# - prepare raw text for continued pretraining, and measure a model's perplexity on a domain;
# - explain DAPT and TAPT, and test DAPT against a control with equal steps and tokens;
# - say why the order of the stages matters, and plan a run for a large model.
#
# *Needs [04](04_instruction_tuning.ipynb). About 45 minutes; the code needs about 90 seconds on two
# CPU cores.*

# %%
import math
import random
import re

import ftkit as ft
from ftkit.teaching import at_135m, direction

SEEDS = [0, 1, 2, 3, 4]
ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C25 C26 C27 -->
#
# > *"A law firm has thousands of contracts, 300 clauses without labels, and budget to label seven
# > clauses. How do you build a model that classifies clauses? How do you show that your method
# > helped?"*
#
# Three terms, the last two from [Gururangan et al. 2020](https://arxiv.org/abs/2004.10964):
#
# - **Continued pretraining** (CPT): more training of a pretrained model by next-token prediction on raw
#   text.
# - **DAPT**, domain-adaptive pretraining: continued pretraining on a large corpus of the *domain*.
# - **TAPT**, task-adaptive pretraining: continued pretraining on the *texts of the task*.
#
# Neither uses instructions or labels. Supervised tuning on labels follows. One text of each stage:

# %%
contracts, finance = ft.records("contracts"), ft.records("finance")
clauses, test = ft.records("contracts_task"), ft.records("contracts_task", "test")
first = clauses[0]
ft.table([{"stage": "DAPT", "text": contracts[0]["text"], "label": ""},
          {"stage": "TAPT", "text": first["input"], "label": ""},
          {"stage": "tuning", "text": f"{first['instruction']} {first['input']}",
           "label": first["output"]}])

# %% [markdown]
# ## The idea
#
# ![Three paths lead from the base model to a tuned model. The upper path is DAPT on contracts. The lower
# path, the control, trains for the same steps and tokens on finance headlines. The middle path has no
# continued pretraining. All end in the same tuning on seven labels. DAPT minus control is the effect of
# the domain, control minus none that of more training, on other text.](figures/06_stages.svg)
#
# Suppose the upper path beats the base model. The model may have learned the vocabulary and style of
# contracts. Or any additional training would have helped. The lower path separates the two. It is the
# **control**: the same steps, tokens and learning rate, on text of another domain. So the primary
# comparison, named before any run, is exact match after DAPT and after the control.

# %% [markdown]
# ## Your turn: from documents to windows
# <!-- claims: C13 C94 · E02 -->
#
# For pretraining, documents are tokenized, joined into one stream with an end-of-sequence token (EOS) after
# each, and cut into windows of equal length.
# Stuck? `ft.hint("text_windows")`.

# %% tags=["raises-exception"]
def text_windows(documents, eos_id, length):
    """Return a list of windows, each a list of at most `length` token ids.

    documents: a list of lists of ids. EOS follows every document; windows do not overlap. Only the
    last window may be shorter than `length`; it is kept.
    """
    ...


ft.check("text_windows", text_windows)

# %% [markdown]
# Raw text has no prompt, so nothing is masked: the labels are a copy of the ids. Instruction tuning uses
# the same loss; only the records and the mask differ. The colored tokens count:

# %%
model, tokenizer = ft.load("tiny")
ft.show_batch([contracts[1], first], tokenizer)

# %% [markdown]
# The loss counts the whole contract, and only the label of the clause, with its EOS.
#
# ## A fair comparison
#
# **No test text in the corpus.** Our generator repeats sentences: each of the 60 test clauses occurs
# in the contracts too. DAPT could gain by having read them. So we delete these sentences, about a third of
# the text. Variants with another number or country stay. Liability clauses hold neither, so all are gone.
#
# **Equal tokens.** A contract is longer than a document of finance headlines, so four documents a step
# would give DAPT more tokens. We cut both corpora into windows of 128 tokens: 127 of the stream after the
# token that begins a text (BOS). The shorter rest is dropped.

# %%
tested = {record["input"].split(": ")[1] for record in test}  # without "Agreement between ..."


def windows(records, length=127):
    """Records of `length` tokens each, cut from the stream of all texts, without test clauses."""
    stream = []
    for record in records:
        sentences = re.split(r"(?<=\.)(?=\s)", record["text"])  # each keeps the space before it
        text = "".join(s for s in sentences if s.strip() not in tested).strip()
        if text:  # [1:] leaves BOS out; EOS ends the document
            stream += ft.encode({"text": text}, tokenizer)["input_ids"][1:]
    starts = range(0, len(stream) - length + 1, length)
    return [{"text": tokenizer.decode(stream[start : start + length])} for start in starts]


corpus = {"contracts": windows(contracts), "finance": windows(finance)}
rows = []
for name, texts in corpus.items():
    tokens = [len(ft.encode(record, tokenizer)["input_ids"][:128]) for record in texts]
    rows.append({"text": name, "windows": len(texts), "shortest window": min(tokens),
                 "test clauses in it": sum(any(s in r["text"] for r in texts) for s in tested)})
ft.table(rows)

# %% [markdown]
# ## Your turn: the perplexity of a domain
# <!-- claims: C61 · E33 -->
#
# How well does a model predict a domain? **Perplexity** is exp(mean loss per token), with the loss in
# nats. A perplexity of 5 means that the model is as uncertain, on average, as with 5 equally likely
# tokens. The mean is over all tokens of the set, so a long document weighs more than a short one.

# %% tags=["raises-exception"]
def domain_perplexity(losses, counts):
    """Return the perplexity of a set of documents.

    losses: mean loss of each document, in nats per token; counts: its number of predicted tokens.
    """
    ...


ft.check("domain_perplexity", domain_perplexity)

# %%
held_out = {name: [ft.encode(record, tokenizer) for record in ft.records(name, "test")[:12]]
            for name in ("general", "contracts", "finance")}
ft.table([{"text": name, "perplexity of the base": math.exp(ft.loss_on(model, examples))}
          for name, examples in held_out.items()])  # loss_on weighs as your function does

# %% [markdown]
# The base model was pretrained on simple generated English, as in "general". Perplexity also depends on
# how predictable a text is. So compare models on the same text, with the same tokenizer
# (across tokenizers: [lesson 14](14_perplexity.ipynb)).

# %% [markdown]
# ## Continued pretraining
# <!-- claims: C5 C61 · E37 -->
#
# We train 24 steps of four windows, on contracts (DAPT) or on finance (the control), with five seeds.
# We watch two losses: on held-out contracts (`val_loss`) and on general text (`general_loss`). Both use
# eight records cut to 128 tokens, so they do not start at the table's values. Does the control improve on
# contracts too? What is the side effect?

# %%
pretraining = ft.Config(learning_rate=1e-3, batch_size=4, max_steps=24, max_length=128, eval_steps=8,
                        precision="fp32")


def continue_on(texts, seed, start="tiny", **changes):
    """A run of continued pretraining of `start` on texts."""
    lab = ft.Experiment(model=start, data=texts, val=ft.records("contracts", "test"),
                        probes=("general",), eval_records=8)
    return lab.run(pretraining, seed=seed, live=False, **changes)


control = [continue_on(corpus["finance"], seed) for seed in SEEDS]
dapt = [continue_on(corpus["contracts"], seed) for seed in SEEDS]
ft.curves({"control": control, "DAPT": dapt}, "val_loss", "general_loss")

# %%
ft.expect([run.after["val_loss"] for run in dapt], "<", [run.after["val_loss"] for run in control],
          "DAPT lowers the loss on contracts more than the control does", paired=True)
ft.expect([run.after["general_loss"] for run in dapt], ">", dapt[0].before["general_loss"],
          "DAPT raises the loss on general text")

# %% [markdown]
# Left: DAPT learned its domain, or at least our generator's few sentence patterns. The control
# improves on contracts too, perhaps because both texts name the same companies (a headline: "Norvik
# reports quarterly profit of 3 million dollars"). So it may hide a part of the domain's effect.
#
# Right: both predict general text worse (tested for DAPT), often a sign of forgetting
# ([lesson 16](16_catastrophic_forgetting.ipynb)). The usual remedy is
# **replay**: mix general text into the new corpus.
#
# Whether the task gets easier, only labels can show.

# %% [markdown]
# ## Your turn: separate the two effects
# <!-- claims: C25 C26 C27 C28 -->
#
# You have a score per seed for three conditions: no continued pretraining, the control, and the domain,
# with the same seeds in the same order. Split the total gain into its two parts.

# %% tags=["raises-exception"]
def split_gain(none, control, domain):
    """Return (training, domain, sd), from three lists of scores, one score per seed.

    training: mean effect of more training, on other text. domain: mean effect of the domain
    beyond that.
    sd: sample standard deviation (n - 1) of the domain's effect over the seeds.
    """
    ...


ft.check("split_gain", split_gain)

# %% [markdown]
# ## Seven labels
# <!-- claims: C25 C27 · E37 -->
#
# Now every model is tuned for 24 steps on seven labeled clauses, one of each type: confidentiality,
# delivery, law, liability, payment, term and termination. Which seven is chance too. So **each seed draws
# its own seven labels**, and all conditions of a seed get the same ones.

# %%
domain_effect = ft.predict("Exact match after DAPT, compared with the control, is ...",
                           "lower", "higher", "no difference seen in 5 seeds")
domain_effect

# %%
tuning = ft.Config(learning_rate=5e-4, batch_size=7, max_steps=24, eval_steps=1000, precision="fp32")


def draw_labels(seed):
    """One labeled clause of each type."""
    draw, chosen = random.Random(seed), []
    for kind in sorted({record["output"] for record in clauses}):
        chosen.append(draw.choice([r for r in clauses if r["output"] == kind]))
    return chosen


def tune(start, seed):
    lab = ft.Experiment(model=(start, tokenizer), data=draw_labels(seed), val=test[:8], probes=())
    return lab.run(tuning, seed=seed, live=False).model

# %%
starts = {"none": [model] * len(SEEDS), "control": [run.model for run in control],
          "DAPT": [run.model for run in dapt]}
tuned, exact = {}, {}
for name, models in starts.items():
    tuned[name] = [tune(start, seed) for start, seed in zip(models, SEEDS, strict=True)]
    exact[name] = [ft.exact_match(m, tokenizer, test) for m in tuned[name]]
ft.table([{"continued pretraining": name, "exact match": exact[name]} for name in starts])

# %%
# direction gives "<", ">" or "" (no difference seen): a one-sided test each way, at 5 %
outcome = direction(exact["DAPT"], exact["control"], paired=True)
verdict = ft.expect(exact["DAPT"], outcome or "==", exact["control"],
                    "primary: exact match after DAPT and after the control", paired=True)
domain_effect.score({"<": "lower", ">": "higher", "": "no difference seen in 5 seeds"}[outcome])

# %% [markdown]
# Guessing a label would give 1/7 = 0.14. Now split the gain. Compare the first two rows with your
# `split_gain(exact["none"], exact["control"], exact["DAPT"])`. The third is their sum.

# %%
def effects(scores):
    """A row for each part of the gain: its differences within each seed, and whether they are seen."""
    rows = []
    for effect, a, b in (("more training", "control", "none"), ("the domain", "DAPT", "control"),
                         ("both", "DAPT", "none")):
        gains = [x - y for x, y in zip(scores[a], scores[b], strict=True)]
        seen = {">": "higher", "<": "lower", "": "no difference seen"}[
            direction(scores[a], scores[b], paired=True)]
        rows.append({"effect of": effect, "difference": f"{a} - {b}", "same seed": gains, "test": seen})
    return rows


ft.table(effects(exact))

# %% [markdown]
# Look at the standard deviations: a domain effect below about 0.2 can hide behind them, and with five seeds
# each row may come out either way. What cannot be seen with five seeds may be seen with more. So we ran the
# cells above on 20 other seeds beforehand, 200 to 219. These are the right answers of 60:

# %%
recorded = {
    "none": [26, 44, 33, 30, 27, 24, 33, 36, 39, 41, 40, 22, 20, 34, 47, 46, 38, 20, 38, 26],
    "control": [50, 44, 46, 50, 45, 47, 36, 43, 49, 44, 47, 35, 50, 47, 51, 41, 52, 52, 40, 29],
    "DAPT": [43, 46, 43, 27, 41, 23, 49, 47, 44, 45, 48, 42, 40, 44, 43, 47, 45, 41, 46, 51]}
twenty = {name: [right / 60 for right in counts] for name, counts in recorded.items()}
ft.expect(twenty["control"], ">", twenty["none"], "20 seeds: more training helps", paired=True)
ft.table(effects(twenty))

# %% [markdown]
# Now the answer is clear, and it is not the one of the claim. Continued pretraining helped a lot: 0.16 in the
# mean. But the control, which never saw a contract, helped as much: 0.19. The domain's own part is -0.04, with
# a standard deviation of 0.18, so it is zero as far as 20 seeds can tell. The gain comes from *more training*
# on text with such names and sentences, whatever its domain. A report with the base alone would have said
# "+0.16 by domain adaptation", with p < 0.001, and would have been wrong about the reason.
#
# Limits: one learning rate and one number of steps for all starts, and one set of 60 test clauses. Of the
# 35 labeled clauses (7 in each of 5 seeds), 15 repeat a test clause's sentence, in all three conditions.

# %% [markdown]
# ## Break it: the wrong order
# <!-- claims: C28 · E37 -->
#
# What happens if continued pretraining comes *after* the tuning? Three classifiers tuned from the
# base get eight steps on contracts, at 1e-3 or at a tenth of it.

# %%
order = ft.predict("Eight steps at a tenth of the learning rate, after tuning: exact match is ...",
                   "lower", "higher", "no difference seen in 3 seeds")
order

# %%
late = {}
for learning_rate in (1e-3, 1e-4):
    models = [continue_on(corpus["contracts"], seed, start=(m, tokenizer), max_steps=8,
                          learning_rate=learning_rate).model
              for m, seed in zip(tuned["none"][:3], SEEDS[:3], strict=True)]
    late[learning_rate] = [ft.exact_match(m, tokenizer, test) for m in models]
ft.table([{"after tuning": "nothing", "exact match": exact["none"][:3]}]
         + [{"after tuning": f"8 steps on contracts, learning rate {rate:g}", "exact match": scores}
            for rate, scores in late.items()])

# %%
ft.expect(late[1e-3], "<", exact["none"][:3], "8 steps at 1e-3 damage the classifier", paired=True)
order.score({"<": "lower", ">": "higher", "": "no difference seen in 3 seeds"}[
    direction(late[1e-4], exact["none"][:3], paired=True)])

# %% [markdown]
# Raw contracts never show an instruction with a one-word answer, and a few large steps can remove that
# format. So continue the base first, and tune last.
#
# If only a tuned model is available, mix instruction data into the corpus. If its base is available too,
# continue the base and add the tuning back as a **chat vector**, tuned − base
# ([Huang et al. 2023](https://arxiv.org/abs/2310.04799)), and test it.

# %% [markdown]
# ## At 135M
#
# The recorded experiment compares DAPT with the control, there called "wrong domain", on
# SmolLM2-135M-Instruct at equal steps. It trains on whole documents of these corpora: tokens are not
# equal, and the contracts still hold sentences of the test. Without continued pretraining that model
# reaches 0.96 with seven labels: little is left to gain.

# %%
at_135m("domain", verdict)

# %% [markdown]
# The control (0.91) ended below "none" (0.96), not tested. A control that does harm exaggerates the
# domain's part.
#
# Other studies:
#
# - TAPT improved RoBERTa, an encoder of 125M parameters, on eight tasks in four domains, and DAPT on seven
#   of them. A domain outside the task's was worse than DAPT, and often worse than none
#   ([Gururangan et al. 2020](https://arxiv.org/abs/2004.10964)).
# - Most of the medical LLMs tested did not consistently beat their base models on medical questions, prompted
#   or fine-tuned on the task, with prompts optimized for both and uncertainty counted
#   ([Jeong et al. 2024](https://arxiv.org/abs/2411.08870)).
# - Warming the learning rate up again, decaying it, and replay matched training from scratch on all data,
#   at 405M and 10B parameters ([Ibrahim et al. 2024](https://arxiv.org/abs/2403.08763)).

# %% [markdown]
# Well-known models:
# <!-- claims: C29 C30 C31 -->
#
# | model | start | training | continued pretraining? |
# |---|---|---|---|
# | [Code Llama](https://arxiv.org/abs/2308.12950) | Llama 2 | 500B tokens, mostly code (70B: 1T), then variants for Python and instructions | yes |
# | [DeepSeekMath](https://arxiv.org/abs/2402.03300) | DeepSeek-Coder 7B | 500B tokens, 56 % from a math corpus of 120B | yes |
# | [Qwen2.5-Coder](https://arxiv.org/abs/2409.12186) | Qwen2.5 | more than 5.5T tokens of code and text | yes |
# | [Med-PaLM](https://arxiv.org/abs/2212.13138) | Flan-PaLM, frozen | a learned soft prompt ([lesson 03](03_the_peft_family.ipynb)) | no |
# | [Med-PaLM 2](https://arxiv.org/abs/2305.09617) | PaLM 2 | instruction tuning on medical questions | no |
# | [BloombergGPT](https://arxiv.org/abs/2303.17564) | random weights | 569B tokens from a corpus of 363B finance and 345B general tokens | no |
#
# ## What if?
#
# Give the last 12 of the 24 steps to TAPT, on the unlabeled clauses of the task. They make 51 windows, so
# 12 steps of four are less than one pass. (The paper adds TAPT after all of DAPT; here it replaces half.)

# %%
unlabeled = [{"text": record["input"]} for record in clauses
             if record["input"].split(": ")[1] not in tested]
rows = []
for seed in SEEDS[:1]:
    halfway = continue_on(corpus["contracts"], seed, max_steps=12).model
    both = continue_on(windows(unlabeled), seed, start=(halfway, tokenizer), max_steps=12).model
    rows.append({"seed": seed, "DAPT": exact["DAPT"][seed],
                 "DAPT + TAPT": ft.exact_match(tune(both, seed), tokenizer, test)})
ft.table(rows)

# %% [markdown]
# One seed is a hint, no result. Why exact match fell was not tested.
#
# ## In practice, 2026
#
# | setting | usual values |
# |---|---|
# | start | the base checkpoint; if published, the one before the final decay of its learning rate |
# | tokens | 1B to 100B and more; up to 4 passes are almost as good as new data ([Muennighoff et al. 2023](https://arxiv.org/abs/2305.16264), pretraining); below about 100M first consider retrieval or synthetic rewriting |
# | learning rate | warm-up and decay again; a peak between a tenth and the full peak of pretraining |
# | replay | 5 to 25 % general text, from an open web corpus if the model's own is not public; more for a stronger shift of the data |
# | method | all parameters; LoRA learned less in continued pretraining ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673)); if memory forces it, a high rank on all linear layers |
# | evaluation | domain and general perplexity, domain tasks, a fixed general suite |

# %% [markdown]
# Continued pretraining with replay in TRL:
#
# ```python
# # {"text": "..."}
# from datasets import interleave_datasets, load_dataset
# from transformers import AutoTokenizer
# from trl import SFTConfig, SFTTrainer, pack_dataset
#
# model_id = "Qwen/Qwen3-4B-Base"
# tokenizer = AutoTokenizer.from_pretrained(model_id)
#
#
# def windows(file):
#     rows = load_dataset("json", data_files=file, split="train").shuffle(seed=0)
#     ids = rows.map(lambda row: {"input_ids": tokenizer(row["text"] + tokenizer.eos_token).input_ids},
#                    remove_columns=rows.column_names)
#     return pack_dataset(ids, seq_length=4096, strategy="wrapped").shuffle(seed=0)
#
#
# mixed = interleave_datasets([windows("domain.jsonl"), windows("general.jsonl")],
#                             probabilities=[0.8, 0.2], seed=0,
#                             stopping_strategy="first_exhausted")  # at the end of either file
# args = SFTConfig(output_dir="domain-base", max_length=4096, bf16=True, num_train_epochs=1,
#                  learning_rate=5e-5, lr_scheduler_type="cosine",
#                  warmup_steps=0.01,  # a fraction of all steps; transformers 5 and later
#                  per_device_train_batch_size=2, gradient_accumulation_steps=32)  # 262k tokens/step
# trainer = SFTTrainer(model=model_id, train_dataset=mixed, args=args)
# trainer.train()
# trainer.save_model("domain-base")
# ```
#
# "wrapped" cuts as `text_windows` does, 1,000 documents at a time; the EOS is added before it. Probabilities
# count rows, so pack before you mix: then 20 % of the rows are 20 % of the tokens. No window is seen twice.
# If the general text has less than about a quarter of the domain's windows, domain text is left out.

# %% [markdown]
# Current methods by name:
#
# - **Mid-training** (annealing): a last phase of pretraining on selected data, while the learning rate
#   decays ([OLMo 2](https://arxiv.org/abs/2501.00656), [survey](https://arxiv.org/abs/2510.23081)).
# - **Synthetic rewriting**: a model restates a small corpus in many ways, because a fact that is read
#   once is hardly learned ([EntiGraph](https://arxiv.org/abs/2409.07431)).

# %% [markdown]
# Pitfalls:
#
# - Performance can fall first and recover later: the **stability gap**
#   ([Guo et al. 2024](https://arxiv.org/abs/2406.14833)).
# - Packed documents attend to each other, in the script above too, unless the attention mask separates
#   them ([lesson 05](05_templates_and_the_bug_zoo.ipynb)).
# - New tokens shorten the domain's texts, but their embeddings start untrained and need much text.
#
# ## Interview
#
# **300 unlabeled clauses, seven labels: what do you do first?**
# <details><summary>Answer</summary>
# What trains nothing: a large model with the seven clauses in its prompt. Then sentence embeddings with a
# small classifier. With several clauses per class, [SetFit](https://arxiv.org/abs/2209.11055) tunes the
# embeddings too. Then labels for the 300 clauses from the large model, checked on a sample, and a
# small model tuned on them. Continued pretraining comes last: for a large corpus that is far from the
# pretraining. If text may not leave the firm, use an open model in house. To show that it helped, label a
# test set besides the seven.
# </details>
#
# **Your DAPT model beats the base by 3 points. What do you still need to show?**
# <details><summary>Answer</summary>
# That the domain is the reason: a control with equal tokens and settings, on other text that does no harm
# itself. That chance does not explain the gain: several seeds and label draws, compared in pairs, on enough
# test items. That no test text was in the corpus. That the base got an equally good prompt and tuning. And
# what was lost on general benchmarks.
# </details>

# %% [markdown]
# **Plan continued pretraining of an 8B model on 10B medical tokens.**
# <details><summary>Answer</summary>
# Deduplicate, filter and decontaminate ([lesson 18](18_data_quality.ipynb)). Start from the base checkpoint,
# train all parameters, warm up again and decay. Choose the peak learning rate and 5 to 25 % replay in short
# pilot runs. Track domain and general perplexity and a fixed suite. Then instruction tuning again. Compute:
# 6 · parameters · tokens = 6 · 8e9 · 1e10 = 4.8e20 FLOPs without the replay, about 340 H100 hours at 40 %
# of 989 TFLOP/s.
# </details>

# %% [markdown]
# ## Recap
#
# - DAPT trains on text of the domain, TAPT on the task's texts; neither uses labels.
# - The base alone cannot separate the domain from more training. A control with equal steps and tokens
#   on another domain can, if it does no harm and no corpus holds test text.
# - Here the claim's first half holds (20 seeds), and its second half fails: the control gained as much as DAPT.
#   A comparison with the base alone would have credited the domain.
# - Draw the labels anew in each seed, and compare in pairs.
# - Continued pretraining can raise the loss on general text and damage earlier tuning: use replay, and
#   tune last.
#
# Next: [07 learning rate](07_learning_rate.ipynb).

# %%
ft.progress("06")
