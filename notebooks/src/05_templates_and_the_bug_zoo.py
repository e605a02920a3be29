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
# **Claim: if the loss falls and nothing crashes, the data pipeline is right.** It could be wrong.
# After this lesson you can
#
# - render a record once, tokenise it once, and prove both;
# - say what BOS, EOS and padding do, and what goes wrong with each;
# - pack records without letting them see each other;
# - read instruments, name the bug behind them, and repair it.
#
# *Needs [04](04_instruction_tuning.ipynb). About 30 minutes; the code needs one minute on two CPU
# cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C15 C17 -->
# ## The question
#
# > *"Your fine-tuned model never stops talking. The loss was fine. Where do you look, in which
# > order, and what would you expect to see?"*
#
# "More data" and "a repetition penalty" are the usual answers. Most such failures sit in the few
# lines that turn a record into integers. Let us go through them.
#
# ## By hand: one record, three texts
#
# `instruction / input / output` is Alpaca's form of a record. What the model reads is a **template**
# filled with it, and there are many.

# %%
from ftkit.data.encoding import encode_all, prompt_ids

model, tokenizer = ft.load("tiny")
record = {"instruction": "Ask this as a question.", "input": "They see a cat.",
          "output": "Do they see a cat?"}
texts = {name: tokenizer.decode(ft.encode(record, tokenizer, template=name)["input_ids"])
         for name in ("chat", "alpaca", "plain")}
ft.table([{"template": name, "text": repr(text)} for name, text in texts.items()])

# %% [markdown]
# Render with the tokenizer's own function, `apply_chat_template`. The **generation prompt** at the
# end, here `Assistant:`, is what the model sees when it has to answer, so it must stand in front of
# the answer in training, too.

# %%
turns = [{"role": "user", "content": "Ask this as a question.\nThey see a cat."},
         {"role": "assistant", "content": record["output"]}]
asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
whole = tokenizer.apply_chat_template(turns, tokenize=False)
assert whole.startswith(asked)  # training and use begin alike, to the byte
ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
assert ids == ft.encode(record, tokenizer)["input_ids"]
assert ids[:len(prompt_ids(record, tokenizer))] == prompt_ids(record, tokenizer)
asked

# %% [markdown]
# <!-- claims: C16 -->
# ## Three tokens that are no words
#
# BOS opens a text, EOS ends it, PAD fills a batch and must never matter. Print them once in every
# project: how many BOS are in a record, and does EOS carry loss? Note `add_special_tokens=False`
# above: the template had written BOS already. Many tokenizers would put a second one in front.

# %%
special = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id,
           "pad": tokenizer.pad_token_id}
example = ft.encode(record, tokenizer)
assert ids.count(special["bos"]) == 1 and len(set(special.values())) == 3
assert example["labels"][-1] == special["eos"]  # the end is learned
ft.show_batch([example], tokenizer)

# %% [markdown]
# <!-- claims: C17 C24 · E06 -->
# ## Another template than in training
#
# Tune on the chat template. Then ask the same questions in other forms: without the role marker,
# in Alpaca's form, with a second BOS. What does each cost?

# %%
marker = ft.predict("What loses more than half of the right answers?",
                    "no `Assistant:` before the answer", "a second BOS", "both", "neither")
marker

# %%
from ftkit.engine.generation import generate
from ftkit.evaluate.scoring import normal

SEEDS = (0, 1, 2)
lab = ft.Experiment(data=ft.records("tasks")[:640], val="tasks")
runs = lab.sweep(ft.Config(learning_rate=1e-3, max_steps=40, eval_steps=1000), seed=SEEDS)
test = ft.records("tasks", "test")[::6]
chat = [prompt_ids(r, tokenizer) for r in test]
no_marker = [prompt_ids(r, tokenizer, "User: {instruction}\n{input}\n{output}") for r in test]
alpaca = [prompt_ids(r, tokenizer, "alpaca") for r in test]
forms = {"as trained": chat, "no role marker": no_marker, "Alpaca": alpaca,
         "double BOS": [[special["bos"], *p] for p in chat]}


# %%
def score(tuned, prompts):
    made = generate(tuned, prompts, 16, special["eos"])
    said = [normal(tokenizer.decode(i, skip_special_tokens=True)) for i in made]
    return sum(s == normal(r["output"]) for s, r in zip(said, test, strict=True)) / len(test)


exact = {name: [score(run.model, prompts) for run in runs] for name, prompts in forms.items()}
ft.table([{"prompt": name, "exact match": values} for name, values in exact.items()])

# %%
ft.expect(exact["no role marker"], "<", exact["as trained"],
          "without the role marker most answers are lost", times=0.5)
ft.expect(exact["double BOS"], "==", exact["as trained"],
          "a second BOS against none")
halved = [sum(exact[name]) < sum(exact["as trained"]) / 2 for name in ("no role marker", "double BOS")]
marker.score("both" if all(halved) else "neither" if not any(halved) else
             marker.options[halved.index(True)])

# %% [markdown]
# Two bugs that look alike on paper, and one of them costs nearly everything. Why is the second BOS
# harmless here? The positions of this model are relative (RoPE): shifting all by one changes little.
# With absolute positions it can be fatal. So look at ids, not at rules of thumb. And with the
# wrong prompt a tuned model is a base model again: it completes.

# %% [markdown]
# <!-- claims: C16 · E05 -->
# ## Padding with EOS
#
# Many models have no PAD, so people write `tokenizer.pad_token = tokenizer.eos_token`, and a
# collator that masks every label with the id of PAD. Then EOS is never learned. Does it always
# hurt? Try two bases: `tiny`, which has seldom seen EOS after an answer, and one that was tuned
# properly before.

# %%
knows = ft.predict("The same bug, on a base that already ends its answers: they ...",
                   "still end", "stop ending")
knows

# %%
from ftkit.lessons.bugs import pipeline, zoo

faulty = zoo.stages("pad_is_eos")
ends = {"tiny": [zoo.run("pad_is_eos", seed).symptoms["stops"] for seed in SEEDS]}
tuned = [pipeline.serve(zoo.run(None, seed).trained.model) for seed in SEEDS]
again = [pipeline.train(faulty, seed, base) for seed, base in zip(SEEDS, tuned, strict=True)]
ends["tuned before"] = [pipeline.measure(run, faulty)["stops"] for run in again]
ft.table([{"base": name, "answers that end": values} for name, values in ends.items()])

# %%
ft.expect(ends["tuned before"], ">", ends["tiny"], "a base that knows EOS hides the bug")
knows.score("still end" if min(ends["tuned before"]) > 0.5 else "stop ending")

# %% [markdown]
# Whoever tests this bug on a chat model concludes that it is harmless. It is not: it waits for the
# first base, or the first new end-of-turn token, that nobody has trained. The repair: a PAD of its
# own, or a mask by length instead of by id.

# %% [markdown]
# <!-- claims: C16 -->
# ## Which side is padded?
#
# In training it does not matter, as long as padding is masked. Now answer a short and a long question
# in one batch. What comes after the last column?

# %%
from ftkit.data.encoding import collate

two = [{"input_ids": p, "labels": [-100, *p[1:]]}
       for p in (min(chat, key=len), max(chat, key=len))]
sides = {side: collate(two, special["pad"], side) for side in ("right", "left")}
right, left = (model(**batch).loss.item() for batch in sides.values())
assert abs(right - left) < 1e-3
says = {side: map(tokenizer.decode, runs[0].model(**batch).logits[:, -1].argmax(-1))
        for side, batch in sides.items()}
ft.table([{"padded on the": side} | dict(zip(("after the short one", "after the long one"), words,
                                             strict=True)) for side, words in says.items()])

# %% [markdown]
# The loss is the same. The answer to the short question is not: on the right it is asked to go on after
# padding. So **pad on the left to generate**; a tokenizer left as training set it gives nonsense for
# all but the longest question, and no error.

# %% [markdown]
# <!-- claims: C17 · E07 -->
# ## Packing
#
# Records are short and rows are long. **Packing** puts several records into a row. How much does it
# save?

# %%
from ftkit.data.encoding import pack

coded = encode_all(lab.train[:200], tokenizer).examples
rows = pack(coded, max_length=128)
used = sum(len(e["input_ids"]) for e in coded)
ft.table([{"way": "one record a row of 128", "rows": len(coded), "used": used / 128 / len(coded)},
          {"way": "packed", "rows": len(rows), "used": used / 128 / len(rows)}])

# %% [markdown]
# But records that stand in one row can see each other. Nothing in a causal mask forbids it. By
# hand: three records as one row, with a mask of **blocks**, and positions that start anew in each.

# %%
import torch

three = coded[:3]
lengths = [len(e["input_ids"]) for e in three]
row = torch.tensor([[i for e in three for i in e["input_ids"]]])
places = torch.tensor([[i for n in lengths for i in range(n)]])
causal = torch.ones(row.shape[1], row.shape[1], dtype=torch.bool).tril()
blocks = torch.block_diag(*[torch.ones(n, n) for n in lengths]).bool() & causal


# %%
def packed_loss(mask, positions):
    logits = model(input_ids=row, position_ids=positions, attention_mask=mask[None, None]).logits
    labels = torch.tensor([label for e in three for label in [-100, *e["labels"][1:]]])
    kept = labels[1:] != -100
    return torch.nn.functional.cross_entropy(logits[0, :-1][kept], labels[1:][kept]).item()


alone = ft.loss_on(model, three)
seen = {"blocks": packed_loss(blocks, places), "causal only": packed_loss(causal, places)}
assert abs(seen["blocks"] - alone) < 1e-4
assert abs(seen["causal only"] - alone) > 1e-2
seen | {"one by one": alone}

# %% [markdown]
# With blocks it is the same loss but for rounding, without them another objective: the second
# record is predicted from the first. `ft.Config(packing=True)` does the former. One thing remains:
# a packed row holds more records, so a step is larger; rate and steps have to be thought over again.

# %% [markdown]
# ## The zoo
#
# `ftkit.lessons.bugs.zoo` holds one plain pipeline in twelve stages (source:
# [`pipeline.py`](../ftkit/lessons/bugs/pipeline.py)) and many bugs, each one stage done wrong in a way that
# happens in real projects. You get a faulty run and instruments, beside a baseline run of another
# seed. The first one we do together.

# %%
case = zoo.case(12)
case

# %%
case.curve()

# %% [markdown]
# The curve is as good as the baseline. Go down the table instead and stop where something is
# **exactly** off: a share of 0 or 1 is worth more than a loss that is a little higher. Then look at
# the batch with that in mind. What carries no loss that should?

# %%
case.batch()

# %%
case.guess("pad_is_eos")
case.repair("pad_is_eos")
case.answers(4)

# %% [markdown]
# ## Break it: three cases for you
#
# The list of suspects first. Then, for each case: what is off, what do `case.curve()`,
# `case.batch()` and `case.answers()` say, which *single* bug explains all of it? Write its name for
# `...`. A wrong guess tells you what speaks against it, and `repair` proves a right one.

# %%
zoo.names()

# %%
second = zoo.case(0)
second.guess(...)
second.repair(...)
second

# %%
third = zoo.case(3)
third.guess(...)
third.repair(...)
third

# %%
fourth = zoo.case(9)
fourth.guess(...)
fourth.repair(...)
fourth

# %% [markdown]
# How many of the three would you have found in the loss curve? Measure the claim of this lesson:
# in how many of the cases so far does the training loss end further from the baseline than
# baseline runs of different seeds end from each other?

# %%
baseline = [zoo.run(None, seed).symptoms["last_loss"] for seed in SEEDS]
cases = {"first": case, "second": second, "third": third, "fourth": fourth}
margin = zoo.INSTRUMENTS["last_loss"][1]  # wider than six correct runs differ
odd = {name: min(abs(c.symptoms["last_loss"] - loss) for loss in baseline) > margin
       for name, c in cases.items()}
ft.expect(sum(odd.values()), "<", 2, "most of these bugs do not show in the training loss")
odd

# %% [markdown]
# ## What if?
#
# There are ten cases more: `zoo.case(1)`, `case(2)`, ... up to 13, one bug each. And you may
# repair with code of your own: `case.repair(collate=my_collate)` runs the faulty pipeline with your
# function as that stage. Below: the correct stage itself. What does another case need?

# %%
case.repair(collate=pipeline.collate)

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2 has a chat template of its own. What is the loss of the same answers with its marker for
# the assistant's turn, and without?

# %%

REAL = download.has("smollm2")
if REAL:
    real, real_tokenizer = ft.load("smollm2")
    few = ft.records("handwritten")[:12]
    bare = "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n{output}"
    with_marker, without = (ft.loss_on(real, encode_all(few, real_tokenizer, template=t).examples)
                            for t in (None, bare))
    ft.expect(with_marker, "<", without, "the marker opens the answer")
    print(f"loss with the role marker {with_marker:.2f}, without {without:.2f}")

# %% [markdown]
# ## Exercises
#
# **1.** PAD and EOS are the same id. `ids` is a padded row, `length` counts the real tokens, the
# first `prompt` of them are the question. Make the labels: no loss on question and padding, loss on
# the real EOS.


# %% tags=["raises-exception"]
def labels_of(ids, prompt, length):
    ...


ft.check("labels_of", labels_of)


# %% [markdown]
# **2.** Some templates write BOS, some do not; some tokenizers add it, some do not. Return `ids`
# with exactly one `bos` in front.


# %% tags=["raises-exception"]
def one_bos(ids, bos):
    ...


ft.check("one_bos", one_bos)


# %% [markdown]
# **3.** A record is too long. Cut it to `limit` tokens so that the answer, whose last id is EOS,
# stays whole, and so does BOS, the first id of the prompt. Return ids and labels; give `None` if
# even that is too much.


# %% tags=["raises-exception"]
def cut(prompt, answer, limit):
    ...


ft.check("cut", cut)


# %% [markdown]
# **4.** The mask of a packed row as lists of 0 and 1, and its positions: `see[i][j]` is 1 where
# token i may look at token j.


# %% tags=["raises-exception"]
def packed_mask(lengths):
    ...


ft.check("packed_mask", packed_mask)

# %% [markdown]
# ## Interview
#
# **The tuned model never stops. Debug.**
# <details><summary>Answer</summary>
# Print the labels of the last token. pad = EOS with a mask by id removes it (here: 0 % of the
# records learned their end, and two in five answers ran on). Then: EOS missing from the text,
# another end of turn in generation_config, answers cut by max_length. On a base that knew EOS the
# bug stays hidden.
# </details>
#
# **What is a chat template, and what goes wrong?**
# <details><summary>Answer</summary>
# The function from messages to the exact string the model was trained on. Wrong: another one in
# use than in training (here: no role marker, from most answers right to almost none), BOS twice,
# EOS that is not the template's. Tokenise once, with add_special_tokens=False, and print ids.
# </details>
#
# **What is packing, and when is it wrong?**
# <details><summary>Answer</summary>
# Several records in one row: at 180 tokens in rows of 2,048 the use rises from 9 % to nearly
# 100 %. Exact only with a block-diagonal mask and positions that start anew: then the loss equals
# that of single records. More records a step, so rate and steps change.
# </details>

# %% [markdown]
# **What does a silent max_length do?**
# <details><summary>Answer</summary>
# It keeps the start (TRL: 1,024 tokens), so long prompts lose the answer and its EOS. With
# response-only loss such a record adds nothing: TRL drops it, elsewhere a batch of them reports a loss
# of 0.0 or nan. Count the records without a label, and those whose last label is not EOS.
# </details>
#
# **Does the side of the padding matter?**
# <details><summary>Answer</summary>
# Training: no, if padding is masked and positions count real tokens or are relative: here the loss was
# the same. Batched generation: yes, left, since the model goes on after the last column.
# </details>
#
# **You add two markers to a base model's vocabulary and train LoRA. What goes wrong?**
# <details><summary>Answer</summary>
# Their rows in the embedding and in the head are new and frozen: the model reads noise and can never
# write the end marker. Train these rows too (peft: <code>trainable_token_indices</code>, or
# <code>modules_to_save</code>) and start them at the mean of known ones.
# </details>
#
# ## Recap
#
# - One template, byte for byte the same in training and use; one BOS; an EOS that carries loss.
# - Packing is exact with a mask of blocks, and another objective without.
# - The loss curve shows few of the bugs. Print ids, labels, answers; measure twice; merge and
#   compare.
#
# Next: [06 domain adaptation](06_domain_adaptation.ipynb); the clinic (21) has the harder cases.
