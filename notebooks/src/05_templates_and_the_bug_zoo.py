# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Templates, special tokens, packing: the bug zoo
#
# **Claim: if the loss falls and nothing crashes, the data pipeline is right.** It could be wrong. After
# this lesson you can
#
# - render a conversation, and prove that training and serving use the same prompt;
# - pad and pack records without losing EOS and without letting them see each other;
# - read a table of instruments, name the bug behind it, and repair it.
#
# *Needs [04 instruction tuning](04_instruction_tuning.ipynb). About 45 minutes; the code runs in about
# one minute on two CPU cores.*

# %%
import torch

import ftkit as ft
from ftkit.inside import encode_all, generate, is_right, pipeline, prompts, zoo
from ftkit.teaching import at_135m, working

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C15 C17 -->
# ## Your job in this lesson
#
# The model that you tuned in lesson 04 went live. The first user writes: *"It answers, and then it
# talks on and on."* Your training loss was fine, and on your own machine it stopped. Where do you look, in
# which order, and what do you expect to see?
#
# "More data" and "a repetition penalty" are common answers. Look first at the few lines that turn a record into
# integers, in training and in serving. Each of the six steps has its own silent bug:
#
# ![Six boxes in a row: render, tokenize, label, truncate, pad or pack, serve. Below each box is a bug: role marker missing, BOS twice, EOS masked by token id, answer and EOS cut off, records see earlier ones, another prompt than in training.](figures/05_pipeline.svg)
#
# (EOS is the token that ends a text, BOS the one that begins it.)
#
# ## Render: the chat template
#
# The model never sees a record with its fields or roles. It sees one text, made by a **chat template**. Here is
# one record in three templates. Compare where the answer begins and what comes right before it.

# %%
model, tokenizer = ft.load("tiny")
record = {"instruction": "Ask this as a question.", "input": "They see a cat.",
          "output": "Do they see a cat?"}
for name in ("chat", "alpaca", "plain"):
    print(name, repr(tokenizer.decode(ft.encode(record, tokenizer, template=name)["input_ids"])))

# %% [markdown]
# ## Your turn: ChatML
#
# Many models use **ChatML** (Qwen, SmolLM and others). Each turn is `<|im_start|>`, the role, a newline, the
# content, `<|im_end|>` and a newline. `messages` is a list of dicts with `role` and `content`. If
# `add_generation_prompt` is true, the text ends where the assistant's content would begin. This **generation
# prompt** tells the model that it is its turn. Stuck? `ft.hint("render_chatml")`, then
# `ft.solution("render_chatml")`.


# %% tags=["raises-exception"]
def render_chatml(messages, add_generation_prompt):
    """The conversation as one string in ChatML."""
    ...


ft.check("render_chatml", render_chatml)

# %% [markdown]
# A tokenizer stores its template as a small program (in the template language Jinja) and runs it in
# `apply_chat_template`. A template must have one property: the finished conversation **begins with** the prompt
# used for serving. Test yours (or ours, until yours is right):

# %%
render_chatml = working("render_chatml", render_chatml)
question = {"role": "user", "content": "Ask this as a question.\nThey see a cat."}
answer = {"role": "assistant", "content": "Do they see a cat?"}
render_chatml([question, answer], False).startswith(render_chatml([question], True))

# %% [markdown]
# **Reasoning models break this on purpose.** Their answers begin with thinking in `<think>` tags, and Qwen3's
# template removes the thinking of earlier turns, to save context. Here is the rule in three lines. You train on
# whole conversations, each rendered once.

# %%
thinking = ft.predict("In a conversation with two answers, which one is trained with its thinking?",
                      "both", "only the first", "only the last", "neither")
thinking

# %%
def as_qwen3(messages, add_generation_prompt):
    """ChatML that drops the thinking of all messages but the last."""
    earlier = [m | {"content": m["content"].split("</think>\n")[-1]} for m in messages[:-1]]
    return render_chatml([*earlier, messages[-1]], add_generation_prompt)


first = answer | {"content": "<think>\nSwap verb and subject.\n</think>\nDo they see a cat?"}
second = answer | {"content": "<think>\nUse the past.\n</think>\nDid they see a cat?"}
text = as_qwen3([question, first, question | {"content": "And in the past?"}, second], False)
print(text)
kept = ("Swap verb" in text, "Use the past" in text)
thinking.score({(True, True): "both", (True, False): "only the first",
                (False, True): "only the last", (False, False): "neither"}[kept])

# %% [markdown]
# So the other answers teach the model *not* to think: users found their tuned models [doing exactly
# that](https://github.com/modelscope/ms-swift/issues/4939). Make one training record for each answer, and train
# on its last turn only. Templates with tool calls have the same trap, and often several end tokens. Print
# one rendered record before each run.

# %% [markdown]
# <!-- claims: C17 C24 · E06 -->
# ## Another prompt than in training
#
# What does a small difference between the two prompts cost? Tune the small model on its own chat template.
# Then ask held-out questions without `Assistant:`, with one space after it, and with two BOS tokens.

# %%
first_guess = ft.predict("Which change loses more than half of the right answers?",
                         "no `Assistant:`", "a space after `Assistant:`", "both", "neither")
first_guess

# %%
lab = ft.Experiment(data=ft.records("tasks")[:640], val="tasks", probes=())  # no extra data sets
config = ft.Config(learning_rate=1e-3, max_steps=40, eval_steps=1000, precision="fp32")
runs = lab.sweep(config, seed=range(3))
test = ft.records("tasks", "test")[::6]
chat = prompts(test, tokenizer)
space = tokenizer(" ", add_special_tokens=False)["input_ids"]
forms = {"as trained": chat,
         "no `Assistant:`": prompts(test, tokenizer, "User: {instruction}\n{input}\n{output}"),
         "a space after `Assistant:`": [ids + space for ids in chat],
         "two BOS tokens": [[tokenizer.bos_token_id] + ids for ids in chat]}


def share_right(tuned, form):
    written = generate(tuned, form, 16, tokenizer.eos_token_id)
    answers = tokenizer.batch_decode(written, skip_special_tokens=True)
    return sum(map(is_right, answers, test)) / len(test)


exact = {name: [share_right(run.model, form) for run in runs] for name, form in forms.items()}
ft.table([{"prompt": name, "exact match": values} for name, values in exact.items()])

# %%
verdict = ft.expect(exact["no `Assistant:`"], "<", exact["as trained"],
                    "without the role marker fewer than half", times=0.5, paired=True)
lost = [name for name in ("no `Assistant:`", "a space after `Assistant:`")
        if 2 * sum(exact[name]) < sum(exact["as trained"])]
first_guess.score(lost[0] if len(lost) == 1 else "both" if lost else "neither")

# %% [markdown]
# <!-- claims: C16 -->
# Why does a space matter? In training it was part of the answer's first token, " Do". Now the model would
# have to continue with "Do", which this tuning never taught. So compare ids, not text:
# `ids(prompt + answer)[:len(ids(prompt))] == ids(prompt)`.
#
# **Two BOS tokens** happen when the template writes BOS and the tokenizer adds another one. They cost this
# small model little or nothing, but a user of Llama-3.1-8B-Instruct reports
# [almost 6 %](https://github.com/princeton-pli/retaining-by-doing/issues/5) on the knowledge test MMLU.
# Tokenize rendered text with `add_special_tokens=False`.
#
# **The end of a turn may not be the tokenizer's EOS.** A Qwen *base* tokenizer has `<|endoftext|>` as EOS, while
# its template ends turns with `<|im_end|>`. Then the tuned model writes `<|im_end|>`, `generate` waits for
# `<|endoftext|>`, and the answer runs on. Compare the token that ends a rendered answer with
# `generation_config.eos_token_id`, which servers such as vLLM read too. This is the first suspect for your user.
#
# <!-- claims: C16 · E05 -->
# ## Pad: when EOS is also padding
#
# Many tokenizers have no PAD token, so people write `tokenizer.pad_token = tokenizer.eos_token`. A collator
# (it makes the batch) that masks every label equal to PAD then masks EOS as well. transformers'
# `DataCollatorForLanguageModeling` [does this](https://github.com/huggingface/transformers/issues/23530).
#
# ## Your turn: labels when PAD is EOS
#
# `ids` is a padded row. `length` is the number of real tokens, `prompt` the number of prompt tokens at the
# start. What can tell the real EOS from padding, if the id cannot?


# %% tags=["raises-exception"]
def labels_of(ids, prompt, length):
    """A list of labels: -100 where nothing is trained, the id itself elsewhere, the real EOS
    included."""
    ...


ft.check("labels_of", labels_of)

# %% [markdown]
# Why did it stop on your own machine? Train 12 steps with this bug from two starting points: the base model, and
# a correctly tuned model, which already ends its answers. How many answers end by themselves?

# %%
SEEDS = range(3)
faulty = zoo.stages("pad_is_eos")  # `zoo` and `pipeline`: a small fine-tuning pipeline and its bugs
from_base, from_tuned = [], []
for seed in SEEDS:
    from_base.append(zoo.run("pad_is_eos", seed).symptoms["stops"])
    tuned = pipeline.serve(zoo.run(None, seed).trained.model)
    from_tuned.append(pipeline.measure(pipeline.train(faulty, seed, tuned), faulty)["stops"])
ft.expect(from_tuned, ">", from_base, "answers that end: a model that knows EOS hides the bug")

# %% [markdown]
# A token without a label is not trained, but the old habit stays until other updates disturb it. So a test on a
# model that knows its EOS can miss the bug. Give PAD a token of its own, or mask by position. (For
# *generation* in batches pad on the **left**: the model continues after the last column.)

# %% [markdown]
# <!-- claims: C17 · E07 -->
# ## Pack: several records in one row
#
# **Packing** puts several records into one row, so that nothing is spent on padding. The risk lies in attention,
# where each token reads earlier ones. The usual (causal) mask lets a record read the records before it.
#
# ![Two masks of nine by nine squares for a row with records of 3, 2 and 4 tokens. Left, the causal mask: below the diagonal, crosses mark where a record sees an earlier one. Right, the block-diagonal mask: only three triangles remain, one for each record. The position ids start again at zero in each record.](figures/05_packed_mask.svg)

# %% [markdown]
# ## Your turn: the packed mask
#
# Return two things: `see`, a list of rows of 0 and 1, where `see[i][j]` is 1 if token i may look at token j;
# and `positions`, the position ids, which tell the model where in its record a token is.


# %% tags=["raises-exception"]
def packed_mask(lengths):
    """(see, positions): rows of 0 and 1, and the position id of each token."""
    ...


ft.check("packed_mask", packed_mask)

# %% [markdown]
# Do libraries build this mask for you? Pack three records in five ways. They are isolated if the loss equals that
# of the records one by one. The last way keeps the **key-value cache**, which stores what attention computed
# for earlier tokens. The first label of each record is -100: no token has to predict the next record.

# %%
packed_mask = working("packed_mask", packed_mask)
three = encode_all(lab.train[:3], tokenizer).examples
row = torch.tensor([[i for example in three for i in example["input_ids"]]])
labels = torch.tensor([[i for example in three for i in [-100, *example["labels"][1:]]]])
see, positions = packed_mask([len(example["input_ids"]) for example in three])
restart, blocks = torch.tensor([list(positions)]), torch.tensor([[[*map(list, see)]]]).bool()
ways = {"running positions, no mask": (None, None, False),
        "restarting positions, your mask": (restart, blocks, False),
        "restarting positions, no mask": (restart, None, False),
        "restarting positions, mask of ones": (restart, torch.ones_like(row), False),
        "restarting positions, cache on": (restart, None, True)}
rows = [{"way": "one by one", "loss": ft.loss_on(model, three)}]
for name, (position_ids, mask, cache) in ways.items():
    with torch.no_grad():
        loss = model(row, labels=labels, position_ids=position_ids, attention_mask=mask,
                     use_cache=cache).loss
    rows.append({"way": name, "loss": loss.item()})
ft.table(rows)

# %% [markdown]
# With PyTorch's own attention, transformers 5 detects packed records by restarting position ids and builds the
# block mask itself, but **only without an attention mask and without a cache**. Either one silently switches
# it off: in the last two rows records see earlier ones. The cache is on by default. `Trainer` turns it off; a loop
# of your own has to. Other attention kernels: [reference page](reference/05_templates_and_the_bug_zoo.md).

# %% [markdown]
# ## Does the training loss show the bugs?
#
# Now test the claim. `zoo` has a correct pipeline and 14 bugs, each one wrong stage. "Loss mask lost" trains on the
# question as well; "role marker missing in training" leaves out `Assistant:`.

# %%
second_guess = ft.predict("Which bug moves the last training losses by more than correct runs differ?",
                          "loss mask lost", "role marker missing in training", "both", "neither")
second_guess

# %%
correct = zoo.run(None, 1).symptoms
rows = []
for name, bug in zoo.BUGS.items():
    off = zoo.deviations(zoo.run(name, 0).symptoms, correct)
    rows.append({"bug": bug.title, "last training loss": off.get("last_loss", "as usual"),
                 "instruments that show it": ", ".join(off) or "none"})
ft.table(rows)

# %%
lines = {"correct, 3 seeds": [zoo.run(None, seed).trained for seed in SEEDS]}
for name in ("no_role_marker", "truncated", "mask_lost"):
    lines[zoo.BUGS[name].title] = zoo.run(name, 0).trained
ft.curves(lines, "loss")

# %%
shown = [row["bug"] for row in rows if row["last training loss"] != "as usual"]
print(len(shown), "of", len(rows), "bugs show in the last training losses")
moved = [bug for bug in ("loss mask lost", "role marker missing in training") if bug in shown]
second_guess.score(moved[0] if len(moved) == 1 else "both" if moved else "neither")

# %% [markdown]
# All four curves fall. The claim fails: most of these bugs leave the last losses within the margin of correct
# runs. The last five in the table do not change the training at all, so the training curve *cannot* show
# them. But each bug moves some other instrument (last column).
#
# ## At 135M
#
# SmolLM2-135M-Instruct, tuned on one prompt and asked with others. Its BOS is `<|im_start|>`.

# %%
at_135m("templates_packing", verdict)

# %% [markdown]
# Without the role marker the model reaches 0.09; with its template's default system message, 0.44. No cost of the
# double BOS was seen here either. In few-shot use of Llama-2-13B, formats that mean the same differed by up to 76
# accuracy points ([Sclar et al. 2024](https://arxiv.org/abs/2310.11324)).
#
# If SmolLM2 is on this machine, ask it untuned: what does the generation prompt do to the loss on answers?

# %%
from ftkit.inside import is_fetched

if is_fetched("smollm2"):
    real, real_tokenizer = ft.load("smollm2")
    records = ft.records("handwritten")[:12]
    bare = "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n{output}"
    asked = bare.replace("{output}", "<|im_start|>assistant\n{output}")
    losses = [ft.loss_on(real, encode_all(records, real_tokenizer, template=template).examples)
              for template in (asked, bare)]
    ft.expect(losses[0], "<", losses[1], "the generation prompt lowers the loss")

# %% [markdown]
# ## In practice, 2026
#
# Packing in TRL. The asserts protect from three bugs: a second row, an attention mask, a lost end.
#
# ```python
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B-Base"
# # train.jsonl: {"prompt": [{"role": "user", "content": "..."}],
# #               "completion": [{"role": "assistant", "content": "..."}]}
# config = SFTConfig(
#     output_dir="packed", packing=True, max_length=4096, learning_rate=1e-5,
#     eos_token="<|im_end|>",  # TRL also adds it to generation_config.eos_token_id
#     per_device_train_batch_size=1, gradient_accumulation_steps=8, num_train_epochs=2,
#     bf16=True, model_init_kwargs={"attn_implementation": "flash_attention_2"})
# data = load_dataset("json", data_files="train.jsonl", split="train")
# trainer = SFTTrainer(model_id, args=config, train_dataset=data)
# tokenizer = trainer.processing_class
# batch = next(iter(trainer.get_train_dataloader()))
# records = (batch["position_ids"] == 0).sum()
# assert len(batch["input_ids"]) == 1 and "attention_mask" not in batch and records > 1
# assert (batch["labels"] == tokenizer.eos_token_id).sum() >= records, "a record lost its end"
# print(tokenizer.decode(batch["input_ids"][0]))
# trainer.train()
# ```
#
# Usual values and more pitfalls are on the [reference page](reference/05_templates_and_the_bug_zoo.md).

# %% [markdown]
# ## Break it: name the bug
#
# Back to your user. `zoo.case(n)` is a run with one bug, next to a correct run with another seed. `off` marks what
# differs by more than correct runs do (the **margin**). Read those rows, then `batch()` (colored tokens are
# trained on) and `answers()`.

# %%
case = zoo.case(12)
case

# %%
print(case.answers(4))
case.batch(1)

# %% [markdown]
# Look for a value that is exactly wrong. `ends_learned` is 0: no record has its EOS trained. In the batch the last
# token is not marked. That explains the rest. This is what your user met:

# %%
case.guess("pad_is_eos")
case.repair("pad_is_eos")

# %% [markdown]
# Now one for you. `zoo.names()` lists the suspects. Which *single* bug explains all of it? Write its name instead
# of `...`. A wrong guess is answered with the evidence against it. More cases: `zoo.case(0)` to `zoo.case(13)`.

# %%
yours = zoo.case(11)
yours.guess(...)
yours.repair(...)
yours

# %% [markdown]
# <details><summary>The case, resolved</summary>
# `alpha_forgotten`. Training is as usual, but `merge` is 0.5: the served weights hold half of the update,
# because the merge left out alpha / r = 2.
# </details>
#
# ## Interview
#
# **The tuned model never stops. Debug.**
# <details><summary>Answer</summary>
# First serving: is the template's end-of-turn token in generation_config.eos_token_id? Is the prompt the training
# prompt? Then the labels: do they hold that token in each answer? PAD = EOS with masking by id removes it, and so
# does truncation. Can LoRA learn that token with its rows frozen? On a model that knew its EOS before, the bug can
# stay hidden.
# </details>
#
# **What is packing, and when is it wrong?**
# <details><summary>Answer</summary>
# Several records in one row, to avoid padding. It is exact only if records cannot see each other: kernels that get
# the boundaries, or a block-diagonal mask. Position ids restart. Test: the loss equals that of single records.
# </details>
#
# More answers are on the [reference page](reference/05_templates_and_the_bug_zoo.md).
#
# ## Recap
#
# - Training and serving must use the same template, token by token.
# - At most one BOS; an end of turn that is trained on and known to `generate`; a PAD of its own.
# - Packed records must not see each other. Test it by the loss.
# - A falling loss proves little. Begin with ids, labels and answers.
#
# Next: [06 domain adaptation](06_domain_adaptation.ipynb).

# %%
ft.progress("05")
