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
# - render a conversation yourself, and prove that training and serving use the same prompt;
# - pad and pack records without losing EOS and without letting records see each other;
# - read a table of instruments, name the bug behind it, and repair it.
#
# *Needs [04 instruction tuning](04_instruction_tuning.ipynb). About 50 minutes; the code runs in about
# one minute on two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C15 C17 -->
# ## The question
#
# > *"Your fine-tuned model never stops. The training loss was fine. Where do you look, in which order,
# > and what do you expect to see?"*
#
# "More data" and "a repetition penalty" are common answers. Look first at the few lines that turn a record into
# integers, in serving and in training.
#
# ![Six boxes in a row: render, tokenize, label, truncate, pad or pack, serve. Below each box is a bug: role marker missing, BOS twice, EOS masked by token id, answer and EOS cut off, records see each other, another prompt than in training.](figures/05_pipeline.svg)

# %% [markdown]
# ## Render: the chat template
#
# A record may be stored as `instruction / input / output` (Alpaca), as `prompt` and `completion`, or as
# `messages` with roles. The model sees only text, made by a **chat template**. One record in three templates:

# %%
model, tokenizer = ft.load("tiny")
record = {"instruction": "Ask this as a question.", "input": "They see a cat.",
          "output": "Do they see a cat?"}
rows = []
for name in ("chat", "alpaca", "plain"):
    ids = ft.encode(record, tokenizer, template=name)["input_ids"]
    rows.append({"template": name, "text": repr(tokenizer.decode(ids))})
ft.table(rows)

# %% [markdown]
# ## Your turn: ChatML
#
# Many models use **ChatML** (Qwen, SmolLM and others). Each turn is `<|im_start|>`, the role, a newline, the
# content, `<|im_end|>` and a newline. Write `render_chatml(messages, add_generation_prompt)`. `messages` is a
# list of dicts with `role` and `content`. If `add_generation_prompt` is true, end with
# `<|im_start|>assistant` and a newline. This **generation prompt** tells the model that it is its turn.
#
# Stuck? `ft.hint("render_chatml")`, then `ft.solution("render_chatml")`.


# %% tags=["raises-exception"]
def render_chatml(messages, add_generation_prompt):
    """The conversation as one string in ChatML."""
    ...


ft.check("render_chatml", render_chatml)

# %% [markdown]
# A tokenizer stores its template as a Jinja program and runs it in `apply_chat_template`. Below is ChatML in
# that form. Training needs one property: the finished conversation **begins with** the prompt used for
# serving. Here we compare text, below ids. (`yours is equal` stays False until you solve the exercise.)

# %%
chatml = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
          "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
question = {"role": "user", "content": "Ask this as a question.\nThey see a cat."}
answer = {"role": "assistant", "content": record["output"]}
prompt = tokenizer.apply_chat_template([question], chat_template=chatml, tokenize=False,
                                       add_generation_prompt=True)
whole = tokenizer.apply_chat_template([question, answer], chat_template=chatml, tokenize=False)
print(whole)
{"begins with the prompt": whole.startswith(prompt),
 "yours is equal": render_chatml([question, answer], False) == whole}

# %% [markdown]
# <!-- claims: C17 C24 · E06 -->
# ## Guess 1: another prompt than in training
#
# Tune the small model on its own chat template. Then ask the same held-out questions with changed prompts:
# without `Assistant:`, with one space after it, in Alpaca's template, with two BOS tokens.

# %%
first_guess = ft.predict("Which change loses more than half of the right answers?",
                         "no `Assistant:`", "a space after `Assistant:`", "both", "neither")
first_guess

# %%
from ftkit.data.encoding import prompts

lab = ft.Experiment(data=ft.records("tasks")[:640], val="tasks", probes=())
runs = lab.sweep(ft.Config(learning_rate=1e-3, max_steps=40, eval_steps=1000), seed=range(5))
test = ft.records("tasks", "test")[::6]
chat = prompts(test, tokenizer)
space = tokenizer(" ", add_special_tokens=False)["input_ids"]
forms = {"as trained": chat,
         "no `Assistant:`": prompts(test, tokenizer, "User: {instruction}\n{input}\n{output}"),
         "a space after `Assistant:`": [ids + space for ids in chat],
         "Alpaca": prompts(test, tokenizer, "alpaca"),
         "two BOS tokens": [[tokenizer.bos_token_id] + ids for ids in chat]}

# %%
from ftkit.engine.generation import generate
from ftkit.evaluate.scoring import is_right


def share_right(tuned, form):
    written = generate(tuned, form, 16, tokenizer.eos_token_id)
    answers = [tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
    return sum(is_right(answer, r) for answer, r in zip(answers, test)) / len(test)


exact = {name: [share_right(run.model, form) for run in runs] for name, form in forms.items()}
ft.table([{"prompt": name, "exact match": values} for name, values in exact.items()])

# %%
verdict = ft.expect(exact["no `Assistant:`"], "<", exact["as trained"],
                    "without the role marker fewer than half", times=0.5, paired=True)
ft.expect(exact["two BOS tokens"], "==", exact["as trained"], "two BOS tokens", paired=True)
marker, blank = (2 * sum(exact[name]) < sum(exact["as trained"])
                 for name in ("no `Assistant:`", "a space after `Assistant:`"))
first_guess.score({(True, False): "no `Assistant:`", (True, True): "both",
                   (False, True): "a space after `Assistant:`",
                   (False, False): "neither"}[marker, blank])

# %% [markdown]
# A space at the end of a prompt is one of the worst changes here. In training it was part of the answer's first
# token, " Do". Now the model would have to continue with "Do" without a space, which this tuning never
# taught. The test is one line on ids: `ids(prompt + answer)[:len(ids(prompt))] == ids(prompt)`. TRL warns "The
# tokenized prompt is not a prefix of the tokenized prompt+completion" when it fails.

# %% [markdown]
# <!-- claims: C16 -->
# **Two BOS tokens** happen when the template writes BOS and the tokenizer adds another one. In this small
# model no difference was seen, but for Llama-3.1-8B-Instruct a user reports that it cost
# [almost 6 % on MMLU](https://github.com/princeton-pli/retaining-by-doing/issues/5). Tokenize rendered text
# with `add_special_tokens=False`, and look at the ids once per project:

# %%
special = {"BOS": tokenizer.bos_token_id, "EOS": tokenizer.eos_token_id,
           "PAD": tokenizer.pad_token_id}
text = tokenizer.apply_chat_template([question, answer], tokenize=False)
once = tokenizer(text, add_special_tokens=False)["input_ids"]
print(special, "· ids begin", once[:3], "· end", once[-2:])
ft.show_batch([ft.encode(record, tokenizer)], tokenizer)

# %% [markdown]
# **The end of a turn may not be the tokenizer's EOS.** A Qwen *base* tokenizer has `<|endoftext|>` as EOS,
# while its template ends turns with `<|im_end|>`. The tuned model then writes `<|im_end|>` correctly, but
# `generate` waits for `<|endoftext|>`, and the answer runs on. Compare the token that ends a rendered
# answer with `generation_config.eos_token_id`; the configuration below shows the repair.
#
# <!-- claims: C16 · E05 -->
# ## Pad: when EOS is also padding
#
# Many tokenizers have no PAD token, so people write `tokenizer.pad_token = tokenizer.eos_token`. A collator
# that masks every label equal to PAD then masks EOS as well. Home-made collators do this, and transformers'
# `DataCollatorForLanguageModeling` [too](https://github.com/huggingface/transformers/issues/23530). TRL's own
# collator pads labels by position, so there PAD = EOS is harmless.
#
# ## Your turn: labels when PAD is EOS
#
# `ids` is a padded row. `length` is the number of real tokens, `prompt` the number of prompt tokens at the
# start. Return a list of labels: -100 on prompt and padding, the ids elsewhere, the real EOS included.


# %% tags=["raises-exception"]
def labels_of(ids, prompt, length):
    """A label for each id: the id itself from `prompt` to `length` - 1, else -100."""
    ...


ft.check("labels_of", labels_of)

# %% [markdown]
# Does the bug always show? Train with it for 12 steps from two starting points: the base model, and a model
# that was tuned correctly before, so that it already ends its answers. `zoo` and `pipeline` hold a small
# fine-tuning pipeline and its bugs; `stops` is the fraction of answers that end by themselves.

# %%
second_guess = ft.predict("The same bug, from a model that ends its answers: most answers ...",
                          "still end", "no longer end")
second_guess

# %%
from ftkit.lessons.bugs import pipeline, zoo

SEEDS = range(3)
faulty = zoo.stages("pad_is_eos")
stops = {"the bug, from the base model": [], "the bug, from a tuned model": [],
         "no bug, from the base model": []}
for seed in SEEDS:
    stops["the bug, from the base model"].append(zoo.run("pad_is_eos", seed).symptoms["stops"])
    correct = zoo.run(None, seed)
    stops["no bug, from the base model"].append(correct.symptoms["stops"])
    again = pipeline.train(faulty, seed, pipeline.serve(correct.trained.model))
    stops["the bug, from a tuned model"].append(pipeline.measure(again, faulty)["stops"])
untrained = zoo.run("fresh_adapter").symptoms["stops"]
ft.table([{"run": name, "answers that end": values} for name, values in stops.items()]
         + [{"run": "base model, not trained", "answers that end": untrained}])

# %%
ft.expect(stops["the bug, from a tuned model"], ">", stops["the bug, from the base model"],
          "a model that knows EOS hides the bug")
mean = sum(stops["the bug, from a tuned model"]) / len(SEEDS)
second_guess.score("still end" if mean > 0.5 else "no longer end")

# %% [markdown]
# Whoever tests this bug on a model that knows its EOS can conclude that it is harmless. A token without a
# label is neither trained nor untrained: the old habit stays until other updates disturb it. The untrained base
# model often ends too, but after a closing sentence such as "Good.", as its pretraining texts do. It does not
# end after a bare answer (15 nats for EOS in lesson 04). Give PAD a token of its own, or mask by length.
#
# **Padding side.** In training the side does not matter if padding is masked and position ids count from the
# first real token (or positions are relative, as in RoPE). For generation in batches pad on the **left**: the
# model continues after the last column, which must be the prompt's last token.

# %% [markdown]
# <!-- claims: C17 · E07 -->
# ## Pack: several records in one row
#
# **Packing** puts several records into one row. How much does it save? Compare with what people do otherwise:
# pad to the longest record of a batch, or sort by length first.

# %%
from ftkit.data.encoding import encode_all, pack

coded = encode_all(lab.train[:200], tokenizer).examples
lengths = [len(example["input_ids"]) for example in coded]
rows = []
for name, order in (("padded, in random order", lengths),
                    ("padded, sorted by length", sorted(lengths))):
    slots = sum(max(order[i:i + 16]) * len(order[i:i + 16]) for i in range(0, len(order), 16))
    rows.append({"batches of 16": name, "positions that hold a token": sum(lengths) / slots})
packed = pack(coded, max_length=128)
rows.append({"batches of 16": "packed into rows of 128",
             "positions that hold a token": sum(lengths) / (128 * len(packed))})
ft.table(rows)

# %% [markdown]
# Against sorted batches there is little to gain here, but sorting makes batches less random. Packing pays off
# most when lengths vary widely. Its risk: a causal mask lets records in one row see each other.
#
# ![Two masks of nine by nine squares for a row with records of 3, 2 and 4 tokens. Left, the causal mask: below the diagonal, crosses mark where a record sees an earlier one. Right, the block-diagonal mask: only three triangles remain, one for each record. The position ids start again at zero in each record.](figures/05_packed_mask.svg)

# %% [markdown]
# ## Your turn: the packed mask
#
# Write `packed_mask(lengths)`. Return two things: `see`, a list of rows of 0 and 1, where `see[i][j]` is 1 if
# token i may look at token j; and `positions`, the position ids. A token sees itself and earlier tokens of
# its own record.


# %% tags=["raises-exception"]
def packed_mask(lengths):
    """(see, positions): rows of 0 and 1, and the position id of each token."""
    ...


ft.check("packed_mask", packed_mask)

# %% [markdown]
# Now pack three records and compare their loss with that of the records one by one, in five ways that occur
# in practice. Position ids restart at 0 in each record except in the first way. The last way keeps the
# **key-value cache**, which stores the keys and values of earlier tokens for generation. The first label of each
# record is -100; otherwise the last token of one record would be trained to predict the first of the next.

# %%
import torch

three = coded[:3]
row = torch.tensor([[i for example in three for i in example["input_ids"]]])
labels = torch.tensor([[i for example in three for i in [-100, *example["labels"][1:]]]])
sizes = [len(example["input_ids"]) for example in three]
restart = torch.cat([torch.arange(size) for size in sizes])[None]
blocks = torch.block_diag(*[torch.ones(size, size).tril() for size in sizes]).bool()
ways = {"no mask, running positions": {},
        "block-diagonal mask": {"attention_mask": blocks[None, None], "position_ids": restart},
        "no mask, restarting positions": {"position_ids": restart},
        "restarting positions, mask of ones": {"position_ids": restart,
                                               "attention_mask": torch.ones_like(row)},
        "restarting positions, cache on": {"position_ids": restart, "use_cache": True}}
alone = ft.loss_on(model, three)
rows = []
for name, inputs in ways.items():
    with torch.no_grad():
        loss = model(row, labels=labels, **{"use_cache": False, **inputs}).loss.item()
    rows.append({"way": name, "loss": loss, "isolated": abs(loss - alone) < 1e-3})
ft.table(rows + [{"way": "one by one", "loss": alone}])

# %% [markdown]
# Read the last three ways. transformers 5 detects packed records by restarting position ids and builds the
# block mask itself, but **only without an attention mask and without a key-value cache**. Either one silently
# switches it off, and the cache is on by default. `Trainer` turns it off; a loop of your own has to. Kernels
# for rows of variable length (**varlen**, as in FlashAttention) get the record boundaries instead.
# Test it as here: compare losses. A packed row trains on more tokens per step, so choose learning rate and
# steps again.

# %% [markdown]
# ## The bug zoo
#
# The [pipeline](../ftkit/lessons/bugs/pipeline.py) of `zoo` has twelve stages: `validation`, `render`,
# `tokenize`, `label`, `truncate`, `collate`, `token_losses`, `scale_loss`, `clear_gradients`, `set_mode`,
# `average`, `serve`. `zoo.case(n)` trains it with one bug, next to a correct run with another seed. `margin` was
# set by hand, above what correct runs of four seeds differ by; `off` says where this run differs by more. The
# first case we do together.

# %%
case = zoo.case(12)
case

# %%
case.curve()

# %% [markdown]
# The curve falls as it should. Its *first* loss is lower: the base model does not expect EOS, and that token
# is no longer counted. (Part of the gap is the other batch.) At the end the runs differ by less than correct
# runs may. Now look for a value that is exactly wrong. `ends_learned` is 0: no record has its EOS trained. In
# the batch below, the last token is not marked, and fewer answers end:

# %%
print(case.answers(4))
case.batch(1)

# %%
case.guess("pad_is_eos")
case.repair("pad_is_eos")

# %% [markdown]
# ## Break it: two cases for you
#
# `zoo.names()` lists the suspects. For each case: which instrument is off? What do `batch()` and `answers()`
# say? Which *single* bug explains all of it? Write its name instead of `...`. A wrong guess is answered with
# the evidence against it.

# %%
zoo.names()

# %%
second = zoo.case(2)
second.guess(...)
second.repair(...)
second

# %%
third = zoo.case(11)
third.guess(...)
third.repair(...)
third

# %% [markdown]
# <details><summary>Both cases, resolved</summary>
# Case 2 is `truncated`. Some records have no trained EOS, `ends_learned` is below 1, and fewer tokens have
# a label: the ends of long records are cut off. Case 11 is `alpha_forgotten`. Training is as usual, but
# `merge` is 0.5: the served weights hold half of the update, because the merge left out alpha / r = 2.
# </details>
#
# ## Does the training loss show the bugs?
#
# Now test the claim on all 14 bugs of the zoo, one run each. A bug shows in an instrument if it is off by more
# than the margin.

# %%
third_guess = ft.predict("Which of these bugs shows in the last training losses?",
                         "answers cut off", "loss mask lost", "evaluated in training mode", "none")
third_guess

# %%
correct = zoo.run(None, 1).symptoms
rows = []
for name, bug in zoo.BUGS.items():
    off = zoo.deviations(zoo.run(name, 0).symptoms, correct)
    rows.append({"bug": bug.title, "last training loss": off.get("last_loss", "as usual"),
                 "instruments that show it": ", ".join(off) or "none"})
ft.table(rows)

# %%
shown = [row["bug"] for row in rows if row["last training loss"] != "as usual"]
print(len(shown), "of", len(rows), "bugs show in the last training losses")
asked = [bug for bug in ("answers cut off", "loss mask lost", "evaluated in training mode")
         if bug in shown]
third_guess.score(asked[0] if asked else "none")

# %% [markdown]
# The claim fails: bugs of rendering, truncation, padding and accumulation leave the last losses within the
# margin. The last five leave training alone, so only the nine others can show there. The margin has to be
# wide: compare `last_loss` of the baseline runs above. How many bugs show depends on it and on which bugs
# one collects. But other instruments do show them.
#
# With every label masked the loss is 0 here. PyTorch's own mean over no label is nan, which is louder.

# %% [markdown]
# ## At 135M
#
# SmolLM2-135M-Instruct, tuned on one prompt and asked with others. Its BOS is `<|im_start|>`, so a prompt that
# begins with two of them is the double BOS.

# %%
from ftkit.lessons.at_135m import at_135m

at_135m("templates_packing", verdict)

# %% [markdown]
# The 0.0938 is the same model without the role marker. No effect of the double BOS was seen here either. The
# default system message cost one to four of the 64 records in each of the three seeds.
#
# For larger models: formats that mean the same differed by up to 76 accuracy points in few-shot use of
# Llama-2-13B ([Sclar et al. 2024](https://arxiv.org/abs/2310.11324)).
# [Meta's Llama 3 report](https://arxiv.org/abs/2407.21783) masks attention between packed documents: little
# effect in standard pretraining, an important one in continued pretraining on very long sequences.

# %% [markdown]
# ## What if?
#
# `case.repair(stage=function)` runs a faulty pipeline with your function as that stage; below, the correct
# collator. Then try other cases, `zoo.case(0)` to `zoo.case(13)`.

# %%
case.repair(collate=pipeline.collate)

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2 uses ChatML. What does the missing generation prompt cost there, in loss on the same answers? Measured
# once for this text: 1.88 nats with it, 2.43 without. (SmolLM2's own template also adds a default system prompt,
# so both forms are written out here.)

# %%
from ftkit.model import download

if download.has("smollm2"):
    real, real_tokenizer = ft.load("smollm2")
    records = ft.records("handwritten")[:12]
    bare = "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n{output}"
    asked = bare.replace("{output}", "<|im_start|>assistant\n{output}")
    with_prompt, without = (
        ft.loss_on(real, encode_all(records, real_tokenizer, template=template).examples)
        for template in (asked, bare))
    ft.expect(with_prompt, "<", without, "the generation prompt lowers the loss")

# %% [markdown]
# ## In practice, 2026
#
# Packing in TRL, with the checks of this lesson: no attention mask hides the record boundaries, the end of
# each turn is trained on, and a decoded batch to read. `eos_token` repairs the Qwen bug from above; TRL also
# adds it to `generation_config.eos_token_id`.
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
#     eos_token="<|im_end|>",  # ends a turn in the template; the base tokenizer's EOS is another
#     per_device_train_batch_size=1, gradient_accumulation_steps=8, num_train_epochs=2,
#     bf16=True, model_init_kwargs={"attn_implementation": "flash_attention_2"})
# data = load_dataset("json", data_files="train.jsonl", split="train")
# trainer = SFTTrainer(model_id, args=config, train_dataset=data)
# tokenizer = trainer.processing_class
# batch = next(iter(trainer.get_train_dataloader()))
# records = (batch["position_ids"] == 0).sum()
# assert "attention_mask" not in batch and records > 1
# assert (batch["labels"] == tokenizer.eos_token_id).sum() >= records, "a record lost its end"
# print(tokenizer.decode(batch["input_ids"][0]))
# ```

# %% [markdown]
# TRL loads the weights in float32 and computes in bf16. Do not add `dtype="bfloat16"` to full fine-tuning: at
# 1e-5 many updates of bf16 weights round to nothing ([12](12_floating_point.ipynb)).
#
# **Usual values.** `max_length` 2,048 to 8,192 for chat; TRL's default is 1,024 and it keeps the start.
# `packing=True` uses the strategy `bfd` (best-fit decreasing): whole records, each shortened if it exceeds
# `max_length`. `bfd_split` splits such records; `wrapped` cuts anywhere.

# %% [markdown]
# **Pitfalls.**
# - Without FlashAttention, packing needs the block mask. transformers 5 builds it under the two conditions
#   you measured; [a mask of ones turns it off](https://github.com/huggingface/transformers/pull/46634).
# - In hybrid models (Mamba or linear attention) a state runs along the row. No attention mask stops it: the
#   kernels need the record boundaries.
# - Multi-turn records: put the whole conversation in `messages` and set `assistant_only_loss=True`; the template
#   needs `{% generation %}` markers (TRL adds them for the models it knows). ChatML
#   writes a newline after `<|im_end|>`: stop at `<|im_end|>`.
# - Some templates insert a default system prompt (Qwen2.5, SmolLM2), a date, or an empty thinking block
#   (Qwen3, after the last question); Qwen3's also drops earlier thinking. Render both sides with one
#   template, pin its revision, and store it with the adapter.
# - vLLM's `/v1/completions` and `LLM.generate` add the tokenizer's BOS to text; `/v1/chat/completions` does not.
# - New special tokens have untrained rows in embedding and head. With LoRA set peft's
#   `trainable_token_indices`: a list trains the embedding and a tied head; an untied head needs
#   `{"embed_tokens": ids, "lm_head": ids}`.

# %% [markdown]
# ## Interview
#
# **The tuned model never stops. Debug.**
# <details><summary>Answer</summary>
# First serving, which costs a minute: is the template's end-of-turn token in generation_config.eos_token_id?
# For a model tuned from a base it may not be. Is the prompt the training prompt? Then the labels: is that
# token trained on in each answer? PAD = EOS with masking by id removes it, and so does truncation. Then the
# text: does the template write it? On a model that knew its EOS before, the bug can stay hidden.
# </details>
#
# **What is a chat template, and what goes wrong?**
# <details><summary>Answer</summary>
# A program that turns messages into the exact text the model was trained on. Errors: another template in
# serving, a missing generation prompt, an extra space or newline, BOS twice, an end of turn that
# is not an EOS for generation. Tokenize rendered text with add_special_tokens=False and compare ids.
# </details>

# %% [markdown]
# **What is packing, and when is it wrong?**
# <details><summary>Answer</summary>
# Several records in one row, to avoid padding. It is exact only if records cannot see each other:
# varlen kernels that get the boundaries, or a block-diagonal mask; position ids restart (with RoPE and an
# explicit mask they need not). A hybrid model's state needs the boundaries too. Test: the loss equals that
# of single records. The gain depends on the spread of lengths; compare with batches sorted by length.
# </details>
#
# **What does a silent max_length do?**
# <details><summary>Answer</summary>
# Usually it cuts the end, so long records lose part of the answer and their EOS. With loss on responses
# only, a long prompt can leave nothing to train on. Count records without any label, and records in which
# the last turn's end token is missing or has no label; then raise the limit, or split or drop these records.
# </details>

# %% [markdown]
# ## Recap
#
# - Training and serving must use the same template, token by token. Here a space broke it.
# - One BOS; an end of turn that is trained on and known to `generate`; a PAD of its own. Packed records must
#   not see each other.
# - Most of these bugs do not show in the last training losses. Print ids, labels and answers.
#
# In the package: [`ftkit/data/templates.py`](../ftkit/data/templates.py). Next:
# [06 domain adaptation](06_domain_adaptation.ipynb).

# %%
ft.progress()
