# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Instruction tuning: the loss, token by token
#
# **Claim: instruction tuning has no loss of its own. It is pretraining's loss on other text, and
# everything that is special about it sits in one row of integers, the labels.** It could be wrong.
# After this lesson you can
#
# - compute the loss of a record by hand, and prove it against transformers;
# - read a label row and find the bug in it;
# - say what the records teach, and how many you need.
#
# *Needs [01](01_full_fine_tuning.ipynb). About 30 minutes; the code needs one minute on two CPU
# cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C94 -->
#
# > *"Take one record. Show me which tokens the model predicts, from what, and which of them count.
# > Now: what breaks if the end-of-sequence token is not among those that count?"*
#
# "Cross-entropy on the response" is where most answers stop. A bug in the labels does not crash.
# The loss falls, the curve looks fine, and the model does the wrong thing.

# %%
lab = ft.Experiment(model="tiny", data="tasks")
record = next(r for r in lab.train if r["task"] == "translation")
record

# %% [markdown]
# ## By hand: from record to text
#
# The model reads text, so the record becomes a conversation, and the tokenizer's **chat template**
# turns that into one string. The part up to `Assistant:` is what it will get when it has to answer.

# %%
model, tokenizer = ft.load("tiny")
question = f"{record['instruction']}\n{record['input']}"
turns = [{"role": "user", "content": question}, {"role": "assistant", "content": record["output"]}]
prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
text = tokenizer.apply_chat_template(turns, tokenize=False)
assert text.startswith(prompt)
text

# %% [markdown]
# ## From text to ids and labels
# <!-- claims: C17 C18 · E03 -->
#
# Two rows of equal length. `input_ids` is what is read. `labels` says what is to be learned: the id
# itself, or -100 where no loss is wanted. Note the space that belongs to the answer's first token.

# %%
prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
answer_ids = tokenizer(text[len(prompt):], add_special_tokens=False)["input_ids"]
input_ids = prompt_ids + answer_ids
labels = [-100] * len(prompt_ids) + answer_ids
examples = [{"input_ids": input_ids, "labels": labels}]
assert ft.encode(record, tokenizer) == examples[0]
ft.show_batch(examples, tokenizer)

# %% [markdown]
# <!-- claims: C15 C18 -->
# Chat data has several turns in one record. Which tokens should carry loss there? Think, then look.

# %%
said = ["What is the opposite of hot?", "cold", "And of big?", "small"]
chat = {"messages": [{"role": role, "content": text}
                     for role, text in zip(["user", "assistant"] * 2, said, strict=True)]}
ft.show_batch([ft.encode(chat, tokenizer)], tokenizer)

# %% [markdown]
# Every answer and every EOS after one; each is predicted from all turns before it, as in use. (Where
# earlier answers are not worth copying, take the last alone.) TRL does this with
# `assistant_only_loss=True`; its default for such records is loss on *all* tokens.

# %% [markdown]
# ## From labels to the loss
#
# The token at place t is predicted from all before it, so its probability stands in the output at
# place **t - 1**: the shift by one. Its loss is minus the logarithm of that probability.

# %%
import torch

with torch.no_grad():
    log_p = model(torch.tensor([input_ids])).logits[0].log_softmax(-1)
steps = []
for t, label in enumerate(labels):
    if label != -100:
        loss = -log_p[t - 1, label].item()
        steps.append({"has read": tokenizer.decode(input_ids[max(0, t - 6):t]),
                      "must say": tokenizer.decode([label]),
                      "probability": float(log_p[t - 1, label].exp()), "loss": loss})
ft.table(steps)

# %% [markdown]
# Which line carries most of the loss? Remember it. The loss of the record is the mean of the last
# column. Hold it against transformers, which shifts by itself: **do not shift the labels**
# yourself, or you train on the token after the next.

# %%
by_hand = sum(step["loss"] for step in steps) / len(steps)
with torch.no_grad():
    library = model(input_ids=torch.tensor([input_ids]), labels=torch.tensor([labels])).loss.item()
assert abs(by_hand - library) < 1e-4 > abs(by_hand - ft.loss_on(model, examples))
by_hand, library

# %% [markdown]
# ## A batch
#
# Records differ in length, so short ones are padded; padding has label -100 and counts for nothing.
# The mean goes over **all labelled tokens** of the batch, not over the records.

# %%
from ftkit.data.encoding import collate

examples = [ft.encode(r, tokenizer) for r in lab.train[:8]]
batch = collate(examples, tokenizer.pad_token_id)
ft.show_batch(examples[:3], tokenizer)


# %%
def sft_loss(logits, labels):
    logits, labels = logits[:, :-1], labels[:, 1:]  # the shift
    counts = labels != -100
    log_p = logits[counts].log_softmax(-1)
    return -log_p.gather(1, labels[counts][:, None]).mean()


out = model(**batch)
assert torch.allclose(sft_loss(out.logits, batch["labels"]), out.loss, atol=1e-4)

# %% [markdown]
# <!-- claims: C13 C94 · E02 -->
# Nothing in `sft_loss` knows about instructions. Give it prose, as in pretraining, and a
# classification written as text. What has to change?

# %%
kinds = {"prose, as in pretraining": ft.records("general")[0], "instruction": record,
         "classification as text": ft.records("sentiment")[0]}
lines = []
for kind, r in kinds.items():
    one = collate([ft.encode(r, tokenizer)], tokenizer.pad_token_id)
    out = model(**one)
    assert torch.allclose(sft_loss(out.logits, one["labels"]), out.loss, atol=1e-4)
    share = (one["labels"] != -100).float().mean().item()
    lines.append({"kind": kind, "share with loss": share, "loss": out.loss.item()})
assert lines[0]["share with loss"] > 0.9 > 0.5 > lines[1]["share with loss"]
ft.table(lines)

# %% [markdown]
# Not a line of code; only the labels. So *supervised fine-tuning* (SFT) is the method, next-token loss
# on demonstrations, and *instruction tuning* is SFT on instructions. Other SFT teaches tool calls or
# classes. So far the claim stands.
#
# ## What does the base know already?
# <!-- claims: C14 -->
#
# The same untouched model, four wordings, on **held-out** entities: none is in any training record.

# %%
from ftkit.evaluate.scoring import normal  # lower case, no full stops

test = ft.records("tasks", "test")[::4]


def score(answers):
    pairs = [(normal(a), normal(r["output"])) for a, r in zip(answers, test, strict=True)]
    return {"exact match": sum(a == wanted for a, wanted in pairs) / len(pairs),
            "begins with the answer": sum(a.startswith(wanted) for a, wanted in pairs) / len(pairs)}


wordings = {"chat template of the tokenizer": None, "Alpaca": "alpaca",
            "question and answer": "Question: {instruction} {input} Answer: {output}",
            "plain, a new line": "plain"}
base = {name: ft.answers(model, tokenizer, test, template=t) for name, t in wordings.items()}
ft.table([{"wording": name} | score(answers) for name, answers in base.items()])

# %% [markdown]
# Poor. But is it ignorance? Ask once more for facts of the same kinds, as **sentences to finish**,
# which is how the base met them: "The capital of France is ...".

# %%
sentences = ft.probe_scores(model, tokenizer, ft.load_probes())
sentences

# %% [markdown]
# The knowledge is there; the wordings do not open it. Never say "the base cannot" after one
# wording, and when a benchmark jumps after tuning, ask how much of that is form.
#
# ## What the records teach
# <!-- claims: C14 C24 · E01 -->
#
# One pass over 1,600 records of 31 tasks.

# %%
guess = ft.predict("Exact match on held-out entities, after 1,600 records, in per cent?")
guess

# %%
run = lab.run(learning_rate=1e-3, max_steps=100)
run

# %%
after = score(ft.answers(run.model, tokenizer, test))["exact match"]
knew = max(score(answers)["begins with the answer"] for answers in base.values())
print(f"tuned {after:.2f}; base, best wording {knew:.2f}")
guess.score(round(100 * after))

# %%
by_task = ft.exact_match(run.model, tokenizer, ft.records("tasks", "test"), by="task")
levels = sorted(set(by_task.values()))
ft.table([{"exact match": level, "tasks": ", ".join(t for t in by_task if by_task[t] == level)}
          for level in levels])

# %% [markdown]
# Read both ends. At the very bottom are skills that pretraining had not settled (`owner` was weak
# among the sentences, too); 50 records of form cannot supply them. [LIMA](https://arxiv.org/abs/2305.11206) says the same of a large model:
# 1,000 good records were enough, since the knowledge was there before.
#
# ## Response, or everything?
# <!-- claims: C18 · E03 -->
#
# `loss_on="all"` counts the instruction as well: more tokens to learn from, and most of them not
# the ones we will ask for. Same records, same steps, three seeds.

# %%
guess = ft.predict("Loss on all tokens, against loss on the response: held-out exact match is ...",
                   "lower", "about the same", "higher")
guess

# %%
seeds = [0, 1, 2]
config = ft.Config(learning_rate=1e-3, max_steps=40, eval_steps=1000)
arms = {where: lab.sweep(config, loss_on=[where], seed=seeds) for where in ("response", "all")}
exact = {where: [ft.exact_match(r.model, tokenizer, test) for r in runs]
         for where, runs in arms.items()}
ft.table([{"loss on": where, "tokens with loss": runs[0].supervised_tokens,
           "exact match": exact[where], "val_loss": [r.after["val_loss"] for r in runs],
           "general_loss": [r.after["general_loss"] for r in runs]}
          for where, runs in arms.items()])

# %%
ft.expect(exact["response"], ">", knew, "tuning beats every wording of the base")
ft.expect(exact["response"], ">", exact["all"], "response-only wins at equal steps")
guess.score("lower" if max(exact["all"]) < min(exact["response"]) else "about the same")

# %% [markdown]
# Is the difference wider than the spread over seeds? And is it the same in the last column? Not a
# law: [Shi et al.](https://arxiv.org/abs/2405.14394) found loss on the instruction to *help*, with few
# records, long instructions and short answers, where the answers alone are soon learned by heart. Try
# both.
#
# ## How many records?
#
# The same 40 steps each time, so that only the records differ: 50 of them are seen 13 times over,
# 640 once. How much of the exact match is left with 50: nearly all, or half? Guess before you run.

# %%
curve = {n: ft.Experiment(data=lab.train[:n], val=lab.val).sweep(config, seed=seeds)
         for n in (50, 200)} | {640: arms["response"]}
curve_exact = {n: [ft.exact_match(r.model, tokenizer, test) for r in runs]
               for n, runs in curve.items()}
ft.expect(curve_exact[640], ">", curve_exact[50], "more different records, at equal steps, help")
ft.table([{"records": n, "exact match": curve_exact[n],
           "val_loss": [r.after["val_loss"] for r in runs]} for n, runs in curve.items()]
         + [{"records": "1,600 (100 steps)", "exact match": after,
             "val_loss": run.after["val_loss"]}])

# %% [markdown]
# Draw such a curve for your own data before you pay for more of it: where it is flat, more of the
# *same* brings nothing; look at what kinds are missing.
#
# ## Break it: EOS without loss
# <!-- claims: E05 -->
#
# One label per record changes: the last one becomes -100. (In real projects: `pad_token =
# eos_token` and a collator that masks padding *by id*.) Train with a plain loop, with and
# without, three times on other records.


# %%
def tune(examples, steps=20):
    tuned, _ = ft.load("tiny")
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=5e-4, weight_decay=0.0)
    for step in range(steps):
        batch = collate(examples[16 * step : 16 * step + 16], tokenizer.pad_token_id)
        tuned(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return tuned.eval()


good = [ft.encode(r, tokenizer) for r in lab.train[:960]]
bad = [{"input_ids": e["input_ids"], "labels": e["labels"][:-1] + [-100]} for e in good]
models = {name: [tune(examples[start : start + 320]) for start in (0, 320, 640)]
          for name, examples in (("EOS learned", good), ("EOS masked", bad))}

# %%
said = {name: [ft.answers(m, tokenizer, test, max_new_tokens=24) for m in three]
        for name, three in models.items()}
lengths = {name: [sum(len(tokenizer(a)["input_ids"]) for a in answers) / len(test)
                  for answers in three] for name, three in said.items()}
ft.expect(lengths["EOS masked"], ">", [2 * n for n in lengths["EOS learned"]],
          "without loss on EOS the model does not know when to stop")
ft.table([{"model": name, "mean length": lengths[name], "for example": three[0][0][:60]}
          | {key: [score(answers)[key] for answers in three] for key in score(three[0])}
          for name, three in said.items()])

# %% [markdown]
# Both know the answer; one cannot stop. Its loss does not tell: at the start EOS was the hardest
# token of all (see the first table), so leaving it out even *lowers* the loss. On a chat model that
# knows its EOS already the same bug can hide for long.
#
# ## Break it: another prompt than in training
# <!-- claims: C24 · E06 -->
#
# The same tuned model, asked in prompts that differ a little from those it was trained on.

# %%
forms = {"as trained": None, "a new line": "User: {instruction}\n{input}\nAssistant:\n{output}",
         "no space after User": "User:{instruction}\n{input}\nAssistant: {output}",
         "Alpaca": "alpaca"}
ft.table([{"prompt": name, "exact match": ft.exact_match(run.model, tokenizer, test, template=t)}
          for name, t in forms.items()])

# %% [markdown]
# So the claim was too strong: these labels were perfect. Some changes cost little, others
# everything; keep the *text* of the prompt that of training, to the byte. The nastiest change is a
# helpful space at its end. In training the space was part of the answer's first token; now it is
# already there, and that token no longer fits.

# %%
from ftkit.data.encoding import prompts
from ftkit.engine.generation import generate

space = tokenizer(" ", add_special_tokens=False)["input_ids"]
longer = [p + space for p in prompts(test, tokenizer)]
ids = [generate(r.model, longer, max_new_tokens=24, eos_token_ids=[tokenizer.eos_token_id])
       for r in arms["response"]]
spaced = [[tokenizer.decode(i, skip_special_tokens=True) for i in said] for said in ids]
ft.expect([score(answers)["exact match"] for answers in spaced], "<",
          [share / 2 for share in exact["response"]], "one space too many ruins the answers")
ft.table([{"wanted": r["output"], "said": a} for r, a in zip(test[:6], spaced[0][:6], strict=True)])

# %% [markdown]
# ## Break it: a mean of means
# <!-- claims: E04 -->
#
# Memory is short, so a batch is split in two and the gradients are added up. If each half reports
# *its own mean*, a token in the half with few labels weighs more than one in the other.

# %%
by_length = sorted(good, key=lambda e: sum(label != -100 for label in e["labels"]))
halves = [collate(half, tokenizer.pad_token_id) for half in (by_length[:8], by_length[-8:])]
whole = collate(by_length[:8] + by_length[-8:], tokenizer.pad_token_id)
with torch.no_grad():
    means = [model(**half).loss.item() for half in halves]
    whole_loss = model(**whole).loss.item()
counts = [int((half["labels"] != -100).sum()) for half in halves]
by_token = (means[0] * counts[0] + means[1] * counts[1]) / sum(counts)
assert abs(by_token - whole_loss) < 1e-3
lines = [("short answers", counts[0], means[0]), ("long answers", counts[1], means[1]),
         ("mean of the two means", "", sum(means) / 2), ("mean over tokens", "", by_token)]
ft.table([dict(zip(("half", "labelled tokens", "loss"), line, strict=True)) for line in lines])

# %% [markdown]
# Trainers [did this](https://github.com/huggingface/transformers/pull/34191) until October 2024.
# Sum the losses, count the labelled tokens of the *whole* step, divide once.
#
# ## Now on a real LLM
#
# SmolLM2 has another template, another tokenizer, 135 million parameters. The same five lines?

# %%

if download.has("smollm2"):
    smol, smol_tokenizer = ft.load("smollm2")
    some = [ft.encode(r, smol_tokenizer) for r in ft.records("handwritten")[:4]]
    batch = collate(some, smol_tokenizer.pad_token_id)
    with torch.no_grad():
        out = smol(**batch)
    assert torch.allclose(sft_loss(out.logits, batch["labels"]), out.loss, atol=1e-3)
    print(f"loss {out.loss:.2f}", ft.show_batch(some[:1], smol_tokenizer), sep="\n")

# %% [markdown]
# ## What if?
#
# One number to change. How few records still teach the form? How many does it take to beat 640?

# %%
records = 25
what_if = ft.Experiment(data=lab.train[:records], val=lab.val).run(config)
what_if

# %% [markdown]
# ## Exercises
#
# **1.** From ids to an example: return `(input_ids, labels)`, EOS at the end and with loss, cut to
# `max_length`; `None` if no token with loss is left.


# %% tags=["raises-exception"]
def make_example(prompt_ids, answer_ids, eos_id, max_length):
    ...


ft.check("make_example", make_example)

# %% [markdown]
# **2.** Four label rows for one record. 1 is BOS, 2 is EOS, the answer is 30 31. Say of each what
# is the matter: `"right"`, `"no end"`, `"shifted twice"` or `"loss on the prompt"`.

# %% tags=["raises-exception"]
# ids    1    20    21    22    30    31     2
rows = {
    "A": [-100, -100, -100, -100, 30, 31, -100],
    "B": [-100, -100, -100, 30, 31, 2, -100],
    "C": [-100, 20, 21, 22, 30, 31, 2],
    "D": [-100, -100, -100, -100, 30, 31, 2],
}
verdicts = {"A": "...", "B": "...", "C": "...", "D": "..."}
ft.check("label_rows", verdicts)


# %% [markdown]
# **3.** The loss of a step from its micro-batches. `parts` lists (mean loss, labelled tokens); a
# micro-batch may have no labelled token at all, and its mean is then nan.


# %% tags=["raises-exception"]
def step_loss(parts):
    ...


ft.check("step_loss", step_loss)

# %% [markdown]
# ## Interview
#
# **Instruction tuning and pretraining: what differs in the loss?**
# <details><summary>Answer</summary>
# Nothing: next-token cross-entropy. The data differs (conversations in a template), the labels
# (-100 on the prompt: here some 15 % of the tokens count), the amount and the rate. Our five-line
# <code>sft_loss</code> equals transformers' to 1e-4 and mentions no instruction.
# </details>
#
# **How do you verify a loss mask?**
# <details><summary>Answer</summary>
# Decode the tokens whose label is not -100 and read them: the answer, its EOS, nothing else.
# Assert at least one in every record; 100 % means the mask is lost, 0 % that a marker was not found,
# since it is tokenised differently in context. Compare one batch's loss with a few lines by hand. "The
# loss falls" proves nothing: without EOS ours learned the answers as well, and never stopped.
# </details>

# %% [markdown]
# **Is loss on the response only always better?**
# <details><summary>Answer</summary>
# It spends the gradient on what will be asked: with 300 prompt tokens and 5 answer tokens, 1.6 %
# of an unmasked loss is the answer's. Here it won at equal steps, 3 seeds. Yet with few records, long
# prompts and short answers loss on the prompt can help, as a regulariser (Shi et al. 2024). Measure.
# </details>
#
# **Two micro-batches, 10 tokens at loss 4 and 90 at loss 2. The loss of the step?**
# <details><summary>Answer</summary>
# (10 · 4 + 90 · 2) / 100 = 2.2. The mean of means is 3.0, and gives each token of the short one 5
# times its weight. Sum, then divide by all labelled tokens of the step, over all ranks.
# </details>
#
# ## Recap
#
# - The loss is pretraining's. Special are the labels (shift once, mask the prompt, keep EOS) and
#   the exact text of the prompt.
# - Look at the mask before you train: no bug in it crashes, and the loss falls all the same.
# - Records teach the form; the knowledge was in the base. Draw the curve before buying more.
#
# In the package: [`ftkit/data/encoding.py`](../ftkit/data/encoding.py). Next:
# [05 templates and the bug zoo](05_templates_and_the_bug_zoo.ipynb), where each of these bugs waits.
