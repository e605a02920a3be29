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
# **Claim: continued pretraining on text of a domain helps a task of this domain when labels are few,
# and the reason is the domain, not the additional training.** Many reports test only the first half.
# After this lesson you can
#
# - prepare raw text for continued pretraining, and measure a model's perplexity on a domain;
# - explain DAPT and TAPT, and test them against a control with an equal number of steps;
# - say why the order of the stages matters, and plan a run for a large model.
#
# *Needs [04](04_instruction_tuning.ipynb). About 35 minutes; the code needs about 90 seconds on two
# CPU cores.*

# %%
import copy
import math
import random

import ftkit as ft
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.claims import direction

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
# Three terms come first. The last two are from
# [Gururangan et al. 2020](https://arxiv.org/abs/2004.10964).
#
# - **Continued pretraining** (CPT): more training of a pretrained model by next-token prediction on raw
#   text.
# - **DAPT**, domain-adaptive pretraining: continued pretraining on a large corpus of the *domain*.
# - **TAPT**, task-adaptive pretraining: continued pretraining on the *texts of the task*, without labels.
#
# A common error is to call TAPT "instruction tuning on tasks of the domain". TAPT uses neither
# instructions nor labels. Both stages are followed by ordinary supervised tuning.

# %%
contracts, finance = ft.records("contracts"), ft.records("finance")
clauses, test = ft.records("contracts_task"), ft.records("contracts_task", "test")
task_texts = [{"text": record["input"]} for record in clauses]
first = clauses[0]
ft.table([{"stage": "DAPT", "text": contracts[0]["text"], "label": ""},
          {"stage": "TAPT", "text": task_texts[0]["text"], "label": ""},
          {"stage": "tuning", "text": f"{first['instruction']} {first['input']}",
           "label": first["output"]}])

# %% [markdown]
# ## The idea
#
# ![Two paths lead from the base model to a tuned model. The upper path is DAPT on contracts, then TAPT
# on the clauses of the task. The lower path, the control, trains the same number of steps on finance
# headlines. Both end in the same tuning on seven labels.](figures/06_stages.svg)
#
# Suppose the upper path beats the base model. There are two explanations. The model may have learned
# the vocabulary and style of contracts. Or any additional training, on any text, would have helped. The
# lower path separates them. It is the **control**: the same steps, batch size and learning rate, on text
# of another domain.
#
# ## Your turn: from documents to windows
# <!-- claims: C13 C94 · E02 -->
#
# Pretraining does not use one row per document. Documents are tokenized, joined into one stream with an
# end-of-sequence token (EOS) after each, and cut into windows of equal length. So no token is padding.
# Write this function. `ft.hint("text_windows")` gives a hint, up to three times;
# `ft.solution("text_windows")` shows a solution.


# %% tags=["raises-exception"]
def text_windows(documents, eos_id, length):
    """Return a list of windows, each a list of at most `length` token ids.

    documents: a list of lists of ids. EOS follows every document; windows do not overlap. Only the
    last window may be shorter than `length`; it is kept.
    """
    ...


ft.check("text_windows", text_windows)

# %% [markdown]
# The labels of a window are a copy of its ids, and the model shifts them by one. There is no prompt, so
# nothing is masked. Instruction tuning uses the same loss; only the records and the mask differ. The next
# cell shows both. Tokens that contribute to the loss are colored.

# %%
model, tokenizer = ft.load("tiny")
ft.show_batch([contracts[1], first], tokenizer)

# %% [markdown]
# Our documents are short, so below each document is one example, and windows are not needed. With long
# documents, the start of a window often continues a document that was cut.
#
# ## Your turn: the perplexity of a domain
# <!-- claims: C61 · E33 -->
#
# **Perplexity** is exp(mean loss per token), with the loss in nats. A perplexity of 5 means that the
# model is as uncertain, on average, as with 5 equally likely tokens. The mean is over all tokens of
# the held-out documents. You get the mean loss and the number of predicted tokens of each document.


# %% tags=["raises-exception"]
def domain_perplexity(losses, counts):
    """Return the perplexity of a set of documents.

    losses: mean loss of each document, in nats per token; counts: its number of predicted tokens.
    """
    ...


ft.check("domain_perplexity", domain_perplexity)

# %%
held_out = {name: [ft.encode(record, tokenizer) for record in ft.records(name, "test")[:20]]
            for name in ("general", "contracts", "finance")}


def perplexity(model, name):
    return math.exp(ft.loss_on(model, held_out[name]))  # loss_on: mean over all tokens


ft.table([{"text": name, "perplexity of the base": perplexity(model, name)} for name in held_out])

# %% [markdown]
# The base model was pretrained on simple generated English; the "general" texts are of that kind. Only
# about 3 % of its pretraining text had the style of one of our domains.
# A higher perplexity shows that the model predicts a text less well. Across domains, it also
# depends on how predictable the text is. So compare models on the same text, and compare only models with
# the same tokenizer ([lesson 14](14_perplexity.ipynb) has measures without this limit).
#
# ## Continued pretraining
# <!-- claims: C5 C61 · E37 -->
#
# We train 24 steps in each condition, with five seeds. "DAPT + TAPT" divides them: 12 steps on contracts,
# then 12 on the task's texts. Before you run it, guess the side effect.

# %%
side_effect = ft.predict("After DAPT on contracts, the perplexity of general text is ...",
                         "lower", "higher", "no difference seen in 5 seeds")
side_effect

# %%
pretraining = ft.Config(learning_rate=1e-3, batch_size=4, max_steps=24, eval_steps=1000)


def continue_on(texts, seed, start="tiny", **changes):
    """The model after continued pretraining of `start` on texts."""
    lab = ft.Experiment(model=start, data=texts, val=texts[:8], probes=())
    return lab.run(pretraining, seed=seed, live=False, **changes).model


starts = {"none": [model] * len(SEEDS)}
starts["other domain"] = [continue_on(finance, seed) for seed in SEEDS]
starts["DAPT"] = [continue_on(contracts, seed) for seed in SEEDS]
starts["DAPT + TAPT"] = []
for seed in SEEDS:
    halfway = continue_on(contracts, seed, max_steps=12)
    starts["DAPT + TAPT"].append(
        continue_on(task_texts, seed, start=(halfway, tokenizer), max_steps=12))

# %%
ppl = {}
for name, models in starts.items():
    ppl[name] = {text: [perplexity(m, text) for m in models] for text in ("contracts", "general")}
ft.table([{"continued pretraining": name} | columns for name, columns in ppl.items()])

# %%
ft.expect(ppl["DAPT"]["contracts"], "<", ppl["other domain"]["contracts"],
          "DAPT lowers the perplexity of contracts more than the control does", paired=True)
base_general = perplexity(model, "general")
side_effect.score({"<": "lower", ">": "higher", "": "no difference seen in 5 seeds"}[
    direction(ppl["DAPT"]["general"], base_general)])

# %% [markdown]
# Compare the two columns. A model that moves toward a domain can become worse on the text of its
# pretraining. That is forgetting, and [lesson 16](16_catastrophic_forgetting.ipynb) treats it. The usual
# remedy is **replay**: mix a part of general text into the new corpus.
#
# ## Your turn: separate the two effects
# <!-- claims: C25 C26 C27 C28 -->
#
# You have a score per seed for three conditions: no continued pretraining, the control, and the domain.
# The conditions use the same seeds in the same order. Split the total gain into its two parts.


# %% tags=["raises-exception"]
def split_gain(none, control, domain):
    """Return (training, domain, sd), from three lists of scores, one score per seed.

    training: mean effect of more training. domain: mean effect of the domain beyond that.
    sd: sample standard deviation (n - 1) of the domain's effect over the seeds.
    """
    ...


ft.check("split_gain", split_gain)

# %% [markdown]
# ## Seven labels
# <!-- claims: C25 C27 · E37 -->
#
# Now every model is tuned for 24 steps on seven labeled clauses, one of each type. The choice of these
# seven clauses is chance too. So **each seed draws its own seven labels**, and all conditions of a
# seed get the same ones. Otherwise the spread over seeds would leave out the largest source of chance.

# %%
domain_effect = ft.predict("Exact match after DAPT + TAPT, compared with the control, is ...",
                           "lower", "higher", "no difference seen in 5 seeds")
domain_effect

# %%
tuning = ft.Config(learning_rate=5e-4, batch_size=7, max_steps=24, eval_steps=1000)


def draw_labels(seed, per_type=1):
    """per_type labeled clauses of each type."""
    draw, chosen = random.Random(seed), []
    for kind in sorted({record["output"] for record in clauses}):
        chosen += draw.sample([r for r in clauses if r["output"] == kind], per_type)
    return chosen


def tune(start, seed, per_type=1):
    lab = ft.Experiment(model=(start, tokenizer), data=draw_labels(seed, per_type), val=test[:8],
                        probes=())
    return lab.run(tuning, seed=seed, live=False).model


classifiers, exact = {}, {}
for name, models in starts.items():
    classifiers[name] = [tune(start, seed) for start, seed in zip(models, SEEDS, strict=True)]
    exact[name] = [ft.exact_match(m, tokenizer, test) for m in classifiers[name]]

# %%
ft.table([{"continued pretraining": name, "exact match": exact[name],
           "general perplexity before tuning": ppl[name]["general"]} for name in starts])

# %%
for name in ("other domain", "DAPT", "DAPT + TAPT"):
    sign = {">": "higher than", "<": "lower than", "": "not distinguishable from"}[
        direction(exact[name], exact["none"], paired=True)]
    print(f"{name}: exact match is {sign} that without continued pretraining")

# %%
verdict = ft.expect(exact["DAPT + TAPT"], "==", exact["other domain"],
                    "exact match after DAPT + TAPT and after the control", paired=True)
domain_effect.score({"<": "lower", ">": "higher", "": "no difference seen in 5 seeds"}[
    direction(exact["DAPT + TAPT"], exact["other domain"], paired=True)])

# %%
rows = []
for name in ("DAPT", "DAPT + TAPT"):
    gains = [a - b for a, b in zip(exact[name], exact["other domain"], strict=True)]
    rows.append({"condition": name, "exact match minus control, same seed": gains})
ft.table(rows)

# %% [markdown]
# How to read this. The three printed lines compare each condition with no continued pretraining. The
# test after them is the claim of this lesson. "No difference seen" does not mean that the domain has no
# effect: the line prints how large a difference five seeds would have shown. The table gives the honest
# report, a difference with its spread.
#
# So a path can beat the base clearly, while its advantage over the control stays open. A report without
# the control would credit all of the gain to the domain. To settle it, use more seeds or more test clauses.
#
# Also compare the order of the perplexities with the order of exact match. Perplexity on contracts
# measures what DAPT trains. It need not rank the models on the task.
#
# ## Break it: the wrong order
# <!-- claims: C28 · E37 -->
#
# The usual order is DAPT, TAPT, tuning. What happens if continued pretraining comes *after* the tuning?
# We take three classifiers that had no continued pretraining, and train them for eight steps on
# contracts. One run uses the learning rate of above, one uses a tenth of it.

# %%
order = ft.predict("Eight steps at a tenth of the learning rate, after tuning: exact match is ...",
                   "lower", "higher", "no difference seen in 3 seeds")
order

# %%
late = {}
for learning_rate in (1e-3, 1e-4):
    models = [continue_on(contracts, seed, start=(m, tokenizer), max_steps=8,
                          learning_rate=learning_rate)
              for m, seed in zip(classifiers["none"][:3], SEEDS[:3], strict=True)]
    late[learning_rate] = [ft.exact_match(m, tokenizer, test) for m in models]
ft.table([{"after tuning": "nothing", "exact match": exact["none"][:3]}]
         + [{"after tuning": f"8 steps on contracts, learning rate {rate:g}", "exact match": scores}
            for rate, scores in late.items()])

# %%
ft.expect(late[1e-3], "<", exact["none"][:3], "8 steps at 1e-3 damage the classifier", paired=True)
order.score({"<": "lower", ">": "higher", "": "no difference seen in 3 seeds"}[
    direction(late[1e-4], exact["none"][:3], paired=True)])

# %% [markdown]
# Raw contracts never show an instruction with a one-word answer. A few large steps toward them can remove
# that format. How much is lost depends on the learning rate, so this is no general law. There are two
# remedies if only a tuned model is available: mix instruction data into the corpus, or add the tuning
# back afterwards.
#
# The second is the **chat vector** ([Huang et al. 2023](https://arxiv.org/abs/2310.04799)): add
# (tuned − base) to the weights of the continued model. No training is needed.

# %%
def add_vector(target, tuned, base):
    """A copy of target whose weights are target + (tuned - base)."""
    result = copy.deepcopy(target)
    for weight, after, before in zip(result.parameters(), tuned.parameters(), base.parameters(),
                                     strict=True):
        weight.data += after.data - before.data
    return result


added = [add_vector(start, tuned, model)
         for start, tuned in zip(starts["DAPT"], classifiers["none"], strict=True)]
ft.table([{"model": "DAPT, then tuned", "exact match": exact["DAPT"]},
          {"model": "DAPT + (tuned - base)",
           "exact match": [ft.exact_match(m, tokenizer, test) for m in added]}])

# %% [markdown]
# The last row used no training after DAPT. In our runs its exact match is near zero: on this small model
# the method fails. A likely reason is that both weight changes are large, and that they disturb each
# other. The paper reports success with Llama 2 models. So test a chat vector before you rely on it; it
# needs a common base, and it costs only one evaluation.
#
# ## At 135M
#
# The recorded runs repeat the comparison with SmolLM2-135M. The claim: DAPT before seven labels helps
# more than another domain.

# %%
at_135m("domain", verdict)

# %% [markdown]
# For larger models:
#
# - DAPT and TAPT improved RoBERTa on eight tasks in four domains. Pretraining on a domain outside the
#   task's was worse than DAPT, and often worse than none
#   ([Gururangan et al. 2020](https://arxiv.org/abs/2004.10964)).
# - Most medical LLMs did not consistently beat their own base models on medical questions, when prompts
#   were optimized for both and uncertainty was counted
#   ([Jeong et al. 2024](https://arxiv.org/abs/2411.04118)).
# - Warming the learning rate up again, decaying it, and replay matched training from scratch on all data,
#   at 405M and 10B parameters ([Ibrahim et al. 2024](https://arxiv.org/abs/2403.08763)).

# %% [markdown]
# Well-known models, and how they were trained:
# <!-- claims: C29 C30 C31 -->
#
# | model | start | training | continued pretraining? |
# |---|---|---|---|
# | [Code Llama](https://arxiv.org/abs/2308.12950) | Llama 2 | 500B tokens, mostly code (70B: 1T), then variants for Python and instructions | yes |
# | [DeepSeekMath](https://arxiv.org/abs/2402.03300) | DeepSeek-Coder 7B | 120B math tokens, mixed with text and code | yes |
# | [Qwen2.5-Coder](https://arxiv.org/abs/2409.12186) | Qwen2.5 | more than 5.5T tokens of code and text | yes |
# | [Med-PaLM](https://arxiv.org/abs/2212.13138) | Flan-PaLM, frozen | a learned soft prompt ([lesson 03](03_the_peft_family.ipynb)) | no |
# | [Med-PaLM 2](https://arxiv.org/abs/2305.09617) | PaLM 2 | instruction tuning on medical questions | no |
# | [BloombergGPT](https://arxiv.org/abs/2303.17564) | random weights | 569B tokens from a corpus of 363B finance and 345B general tokens | no |
#
# ## What if?
#
# Change `per_type`. With more labels, the advantage of continued pretraining usually shrinks. Does it
# here, by more than the spread?

# %%
per_type = 2
rows = []
for name in ("none", "DAPT + TAPT"):
    scores = [ft.exact_match(tune(start, seed, per_type), tokenizer, test)
              for start, seed in zip(starts[name][:3], SEEDS[:3], strict=True)]
    rows.append({"continued pretraining": name, f"exact match, {per_type} per type": scores})
ft.table(rows)

# %% [markdown]
# The answer is in the two spreads: if they overlap widely, three seeds do not show an advantage.
#
# ## In practice, 2026
#
# | setting | usual values |
# |---|---|
# | start | the base checkpoint, before the final decay if it is published |
# | tokens | 1B to 100B and more; below about 100M first consider retrieval or synthetic rewriting |
# | learning rate | warm-up and decay again; a peak between a tenth and the full peak of pretraining |
# | replay | 5 to 25 % general text; more for a stronger shift of the data |
# | method | all parameters; LoRA learned less in continued pretraining ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673)) |
# | evaluation | domain and general perplexity, domain tasks, a fixed general suite |

# %% [markdown]
# Continued pretraining with replay in TRL:
#
# ```python
# # {"text": "..."}
# from datasets import interleave_datasets, load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-4B-Base"
# domain = load_dataset("json", data_files="domain.jsonl", split="train")
# general = load_dataset("json", data_files="general.jsonl", split="train")
# mixed = interleave_datasets([domain, general], probabilities=[0.8, 0.2], seed=0,
#                             stopping_strategy="all_exhausted")
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=mixed,
#     args=SFTConfig(
#         output_dir="domain-base", max_length=4096, packing=True, packing_strategy="wrapped",
#         learning_rate=5e-5, warmup_steps=0.01, lr_scheduler_type="cosine", num_train_epochs=1,
#         per_device_train_batch_size=2, gradient_accumulation_steps=32, bf16=True,
#     ),
# )
# trainer.train()
# ```
#
# `packing_strategy="wrapped"` is `text_windows`: it joins and cuts the stream. Other strategies
# keep short documents whole.

# %% [markdown]
# Current methods by name:
#
# - **Mid-training** (annealing): a last phase of pretraining on selected data, while the learning rate
#   decays ([OLMo 2](https://arxiv.org/abs/2501.00656), [survey](https://arxiv.org/abs/2510.23081)).
# - **Synthetic rewriting**: a model restates a small corpus in many ways, because a fact that is read
#   once is hardly learned. [EntiGraph](https://arxiv.org/abs/2409.07431) writes about relations
#   between entities; [instruction pre-training](https://arxiv.org/abs/2406.14491) adds questions with
#   answers.
# - **Chat vectors** and [task arithmetic](https://arxiv.org/abs/2212.04089) transfer a tuning by
#   addition, as above.
# - **Tokenizer extension** adds tokens for a domain or language. The new embeddings must be trained.

# %% [markdown]
# Pitfalls:
#
# - Performance can fall first and recover later: the **stability gap**
#   ([Guo et al. 2024](https://arxiv.org/abs/2406.14833)). Do not stop at the first evaluation.
# - Packed documents can attend to each other unless the attention mask separates them
#   ([lesson 05](05_templates_and_the_bug_zoo.ipynb)).
# - Domain corpora contain duplicates and test questions. Deduplicate and decontaminate first
#   ([lesson 18](18_data_quality.ipynb)).
#
# ## Interview
#
# **Define DAPT and TAPT.**
# <details><summary>Answer</summary>
# Both continue language-model pretraining on unlabeled text before supervised tuning. DAPT uses a large
# corpus of the domain. TAPT uses the task's own unlabeled texts. It is much cheaper, and in the original
# paper it also helped after DAPT. TAPT is not instruction tuning.
# </details>
#
# **Your DAPT model beats the base by 3 points. What do you still need to show?**
# <details><summary>Answer</summary>
# That the domain is the reason: a control with equal tokens and settings on other text. That the gain
# exceeds the spread over seeds and label draws, compared in pairs. That the base got an equally good
# prompt and tuning. And what was lost on general benchmarks.
# </details>

# %% [markdown]
# **Plan continued pretraining of an 8B model on 10B medical tokens.**
# <details><summary>Answer</summary>
# Deduplicate, filter and decontaminate. Start from the base checkpoint, train all parameters, warm up
# again and decay. Choose the peak learning rate and 5 to 25 % replay in short pilot runs. Track domain
# and general perplexity and a fixed suite. Then instruction tuning again, or a chat vector. Compute:
# 6 · 8e9 · 1e10 = 4.8e20 FLOPs without the replay, about 340 H100 hours at 40 % of 989 TFLOP/s.
# </details>
#
# **Contracts change every week: continued pretraining or retrieval?**
# <details><summary>Answer</summary>
# Retrieval for facts of single documents: they can be cited, updated and deleted, and access can be
# controlled. Continued pretraining for what documents share: vocabulary, style, structure. It must be
# repeated for each new base model. The two can be combined.
# </details>

# %% [markdown]
# ## Recap
#
# - DAPT trains on text of the domain, TAPT on the task's texts; neither uses labels.
# - Only a control with equal steps on another domain separates the domain from more training.
# - Draw the labels anew in each seed, and compare in pairs.
# - Continued pretraining can damage general text and earlier tuning: use replay, and tune last.
#
# Next: [07 learning rate](07_learning_rate.ipynb).

# %%
ft.progress("06")
