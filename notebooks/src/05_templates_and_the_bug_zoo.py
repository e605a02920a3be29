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
# integers, in training and in serving. Each of the six steps has its own silent bug:
#
# ![Six boxes in a row: render, tokenize, label, truncate, pad or pack, serve. Below each box is a bug: role marker missing, BOS twice, EOS masked by token id, answer and EOS cut off, records see earlier ones, another prompt than in training.](figures/05_pipeline.svg)

# %% [markdown]
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
# content, `<|im_end|>` and a newline. Write `render_chatml`. `messages` is a list of dicts with `role` and
# `content`. If `add_generation_prompt` is true, end with `<|im_start|>assistant` and a newline. This
# **generation prompt** tells the model that it is its turn.
#
# Stuck? `ft.hint("render_chatml")`, then `ft.solution("render_chatml")`.


# %% tags=["raises-exception"]
def render_chatml(messages, add_generation_prompt):
    """The conversation as one string in ChatML."""
    ...


ft.check("render_chatml", render_chatml)

# %% [markdown]
# A tokenizer stores its template as a program in the Jinja language and runs it in `apply_chat_template`. A
# template must have one property: the finished conversation **begins with** the prompt used for serving. Does
# ours?

# %%
print(tokenizer.chat_template)
question = {"role": "user", "content": "Ask this as a question.\nThey see a cat."}
answer = {"role": "assistant", "content": record["output"]}
prompt = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
whole = tokenizer.apply_chat_template([question, answer], tokenize=False)
print("begins with the prompt:", whole.startswith(prompt))

# %% [markdown]
# <!-- claims: C17 C24 · E06 -->
# ## Another prompt than in training
#
# What does a small difference between the two prompts cost? Tune the small model on its own chat template.
# Then ask the same held-out questions without `Assistant:`, with one space after it, and with two BOS tokens.

# %%
first_guess = ft.predict("Which change loses more than half of the right answers?",
                         "no `Assistant:`", "a space after `Assistant:`", "both", "neither")
first_guess

# %%
from ftkit.inside import encode_all, pack, prompts

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

# %%
from ftkit.inside import generate, is_right


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
# One space at the end of the prompt loses nearly all answers. In training the space was part of the answer's
# first token, " Do". Now the model would have to continue with "Do", which this tuning never taught. So compare
# ids, not text: `ids(prompt + answer)[:len(ids(prompt))] == ids(prompt)`. TRL warns "The tokenized prompt is
# not a prefix of the tokenized prompt+completion" when this fails.

# %% [markdown]
# <!-- claims: C16 -->
# **Two BOS tokens** happen when the template writes BOS and the tokenizer adds another one. They cost this
# small model little or nothing, but a user of Llama-3.1-8B-Instruct reports a loss of
# [almost 6 %](https://github.com/princeton-pli/retaining-by-doing/issues/5) on the knowledge test MMLU.
# Tokenize rendered text with `add_special_tokens=False`, and look at it once (`Ġ` is a space, `Ċ` a newline):
# at most one BOS, at the start, and an end token after each answer.

# %%
ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
print(tokenizer.convert_ids_to_tokens(ids))

# %% [markdown]
# **The end of a turn may not be the tokenizer's EOS.** A Qwen *base* tokenizer has `<|endoftext|>` as EOS,
# while its template ends turns with `<|im_end|>`. Even if the tuned model writes `<|im_end|>` correctly,
# `generate` waits for `<|endoftext|>`, and the answer runs on. Compare the token that ends a rendered
# answer with `generation_config.eos_token_id`, which vLLM reads too.
#
# <!-- claims: C16 · E05 -->
# ## Pad: when EOS is also padding
#
# Many tokenizers have no PAD token, so people write `tokenizer.pad_token = tokenizer.eos_token`. A collator
# (it makes the batch) that masks every label equal to PAD then masks EOS as well. transformers'
# `DataCollatorForLanguageModeling` [does this](https://github.com/huggingface/transformers/issues/23530).
# TRL's collator of the same name pads labels by position, which is right. Write that:
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
# Does this bug always show? Train with it for 12 steps from two starting points: the base model, and a
# correctly tuned model, which already ends its answers. How many answers end by themselves?
# (`zoo` and `pipeline` hold a small fine-tuning pipeline and its bugs.)

# %%
from ftkit.inside import pipeline, zoo

SEEDS = range(3)
faulty = zoo.stages("pad_is_eos")
from_base, from_tuned = [], []
for seed in SEEDS:
    from_base.append(zoo.run("pad_is_eos", seed).symptoms["stops"])
    tuned = pipeline.serve(zoo.run(None, seed).trained.model)
    again = pipeline.train(faulty, seed, tuned)
    from_tuned.append(pipeline.measure(again, faulty)["stops"])
ft.expect(from_tuned, ">", from_base, "answers that end: a model that knows EOS hides the bug")

# %% [markdown]
# A correct run from the base model also reaches 0.97 (`stops` in the tables below). So a test on a model that
# knows its EOS can miss the bug. A token without a label is not trained, but the old habit stays until other
# updates disturb it. Give PAD a token of its own, or mask by length.
#
# **Padding side.** For generation in batches pad on the **left**: the model continues after the last column,
# which must be the prompt's last token.

# %% [markdown]
# <!-- claims: C17 · E07 -->
# ## Pack: several records in one row
#
# **Packing** puts several records into one row. How much does it save? Compare with padding to the longest
# record of a batch, in random order or sorted by length.

# %%
coded = encode_all(lab.train[:192], tokenizer).examples
lengths = [len(example["input_ids"]) for example in coded]


def padded(order):
    """Positions in batches of 16 records, each padded to its longest."""
    return sum(16 * max(order[i:i + 16]) for i in range(0, len(order), 16))


slots = {"padded, in random order": padded(lengths),
         "padded, sorted by length": padded(sorted(lengths)),
         "packed into rows of 128": 128 * len(pack(coded, max_length=128))}
ft.table([{"batches": name, "positions that hold a token": sum(lengths) / number}
          for name, number in slots.items()])

# %% [markdown]
# Against sorted batches there is little to gain here, but sorting makes batches less random. The risk of
# packing: a causal mask lets a record see the earlier ones in its row.
#
# ![Two masks of nine by nine squares for a row with records of 3, 2 and 4 tokens. Left, the causal mask: below the diagonal, crosses mark where a record sees an earlier one. Right, the block-diagonal mask: only three triangles remain, one for each record. The position ids start again at zero in each record.](figures/05_packed_mask.svg)

# %% [markdown]
# ## Your turn: the packed mask
#
# Write `packed_mask`. Return two things: `see`, a list of rows of 0 and 1, where `see[i][j]` is 1 if token i may
# look at token j; and `positions`, the position ids. A token sees itself and earlier tokens of its own record.


# %% tags=["raises-exception"]
def packed_mask(lengths):
    """(see, positions): rows of 0 and 1, and the position id of each token."""
    ...


ft.check("packed_mask", packed_mask)

# %% [markdown]
# Do libraries build this mask for you? Pack three records in five ways. They are isolated if the loss equals that
# of the records one by one. The last way keeps the **key-value cache**, which stores the keys and values of
# earlier tokens for generation. The first label of each record is -100: no token has to predict the next record.

# %%
import torch

three = coded[:3]
row = torch.tensor([[i for example in three for i in example["input_ids"]]])
labels = torch.tensor([[i for example in three for i in [-100, *example["labels"][1:]]]])
sizes = [len(example["input_ids"]) for example in three]
restart = torch.cat([torch.arange(size) for size in sizes])[None]
blocks = torch.block_diag(*[torch.ones(size, size).tril() for size in sizes]).bool()[None, None]
ways = {"running positions, no mask": (None, None, False),
        "restarting positions, block-diagonal mask": (restart, blocks, False),
        "restarting positions, no mask": (restart, None, False),
        "restarting positions, mask of ones": (restart, torch.ones_like(row), False),
        "restarting positions, cache on": (restart, None, True)}
rows = [{"way": "one by one", "loss": ft.loss_on(model, three)}]
for name, (positions, mask, cache) in ways.items():
    with torch.no_grad():
        loss = model(row, labels=labels, position_ids=positions, attention_mask=mask,
                     use_cache=cache).loss
    rows.append({"way": name, "loss": loss.item()})
ft.table(rows)

# %% [markdown]
# Where attention takes a mask (sdpa, eager), transformers 5 detects packed records by restarting position ids
# and builds the block mask itself, but **only without an attention mask and without a key-value cache**.
# Either one silently switches it off: in the last two rows records see earlier ones, with the same position ids.
# The cache is on by default. `Trainer` turns it off; a loop of your own has to.
#
# Kernels for records of variable length (**varlen**, as in FlashAttention) take the record boundaries instead.
# transformers reads them from the restarting position ids, but **only if the batch has one row**. TRL's default
# packing joins its rows and passes the boundaries.

# %% [markdown]
# ## The bug zoo
#
# `zoo.case(n)` trains 12 steps with one bug, next to a correct run with another seed. Its
# [pipeline](../ftkit/lessons/bugs/pipeline.py) adds six stages of training and validation to the figure's six.
# `margin` was set by hand, above the differences among correct runs of four seeds. `off` marks a difference
# above it. In the first case, read only the rows with an entry under `off`, then the curve.

# %%
case = zoo.case(12)
case

# %%
case.curve()

# %% [markdown]
# The curve falls as it should. Look for a value that is exactly wrong: `ends_learned` is 0, so no record has its
# EOS trained. That explains the rest, such as the lower first loss: the base model does not expect EOS. The
# batch confirms it: its last token is not marked.

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
# the evidence against it. More cases: `zoo.case(0)` to `zoo.case(13)`.

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
# Case 2 is `truncated`. `ends_learned` is below 1 and fewer tokens have a label: the ends of long records are
# cut off. Case 11 is `alpha_forgotten`. Training is as usual, but `merge` is 0.5: the served weights hold half
# of the update, because the merge left out alpha / r = 2.
# </details>
#
# ## Does the training loss show the bugs?
#
# Now test the claim. "Loss mask lost" trains on the question as well; "role marker missing in training" leaves
# out `Assistant:`.

# %%
second_guess = ft.predict("Which bug moves the last training losses by more than the margin?",
                          "loss mask lost", "role marker missing in training", "both", "neither")
second_guess

# %%
lines = {"correct, 3 seeds": [zoo.run(None, seed).trained for seed in SEEDS]}
for name in ("no_role_marker", "truncated", "mean_of_means", "mask_lost"):
    lines[zoo.BUGS[name].title] = zoo.run(name, 0).trained
ft.curves(lines, "loss")

# %% [markdown]
# All five fall. "Loss mask lost" starts lower but ends far above: the answers are soon learned, the questions
# stay harder to predict. The others leave the band of the correct runs at some steps; two end at 1.1 (correct: 0.73). The
# table has all 14 bugs, one run each:

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
moved = [bug for bug in ("loss mask lost", "role marker missing in training") if bug in shown]
second_guess.score(moved[0] if len(moved) == 1 else "both" if moved else "neither")

# %% [markdown]
# The claim fails: most of these bugs leave the last losses within the margin of a correct run. At 0.75 it is
# wide, because correct runs of 12 steps differ (0.76 and 1.21 above). The last five in the table do not change
# the training, so the training curve cannot show them. But each bug moves some other instrument (last column).

# %% [markdown]
# ## At 135M
#
# SmolLM2-135M-Instruct, tuned on one prompt and asked with others. Its BOS is `<|im_start|>`.

# %%
from ftkit.teaching import at_135m

at_135m("templates_packing", verdict)

# %% [markdown]
# The picture shows the trained prompt. Without the role marker the model reaches 0.0938, and 0.44 with its
# template's default system message. No cost of the double BOS was seen here either.
#
# For larger models: formats that mean the same differed by up to 76 accuracy points in few-shot use of
# Llama-2-13B ([Sclar et al. 2024](https://arxiv.org/abs/2310.11324)). A mask between packed documents had
# little effect in Llama 3's standard pretraining, but was important in continued pretraining on very long
# sequences ([its report](https://arxiv.org/abs/2407.21783)).

# %% [markdown]
# ## Now on a real LLM
#
# The loss of SmolLM2 on the same answers, measured once: 1.88 nats with the generation prompt, 2.43 without.

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
# Packing in TRL. `eos_token` repairs the Qwen bug from above. The asserts require, in one batch, one row of
# several records (it fails if one near `max_length` is alone), no attention mask, labels on each answer's end.
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

# %% [markdown]
# **Usual values.** `max_length` 2,048 to 8,192 for chat; TRL's default is 1,024, and longer records lose their
# end. A packed row has more tokens per step: choose learning rate and steps again.
#
# **Pitfalls.**
# - A collator of your own breaks packing under sdpa with
#   [a mask of ones](https://github.com/huggingface/transformers/pull/46634), and under FlashAttention with a
#   second row.
# - In hybrid models (Mamba or linear attention) a state runs along the row. No attention mask stops it: the
#   kernels need the record boundaries.
# - Some templates insert a default system prompt (Qwen2.5, SmolLM2), a date, or an empty thinking block
#   (Qwen3). Qwen3's also removes the thinking of earlier turns: make one training record for each answer.
#   Render both sides with one template and store it with the adapter. `/v1/completions` applies none.
# - New special tokens have untrained rows in embedding and head. With LoRA train them by peft's
#   `trainable_token_indices`; an untied head needs `{"embed_tokens": ids, "lm_head": ids}`. Even
#   `<|im_end|>` of a base model may need this ([a report](https://github.com/QwenLM/Qwen3/issues/1064)).

# %% [markdown]
# ## Interview
#
# **The tuned model never stops. Debug.**
# <details><summary>Answer</summary>
# First serving: is the template's end-of-turn token in generation_config.eos_token_id? If not,
# skip_special_tokens=False shows that token inside the output. Is the prompt the training prompt? Then the
# labels: do they hold that token in each answer? PAD = EOS with masking by id removes it, and so does
# truncation. Can LoRA learn that token with its rows frozen? On a model that knew its EOS before, the
# bug can stay hidden.
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
# varlen kernels that get the boundaries (hybrid models need them too), or a block-diagonal mask. Position ids
# restart. Plain rotary embeddings can do without, but transformers finds the boundaries by the restart. Test:
# the loss equals that of single records. The gain depends on the spread of lengths.
# </details>
#
# **What does a silent max_length do?**
# <details><summary>Answer</summary>
# Usually it cuts the end, so long records lose part of the answer and their EOS. With loss on responses
# only, a long prompt can leave nothing to train on. Count records whose last end token is missing or has no
# label; then raise the limit, or split or drop these records.
# </details>

# %% [markdown]
# ## Recap
#
# - Training and serving must use the same template, token by token.
# - At most one BOS; an end of turn that is trained on and known to `generate`; a PAD of its own.
# - Packed records must not see each other. Test it by the loss.
# - At the end of these short loss curves most bugs were within the margin; five cannot change the curve at all.
#   Begin with ids, labels and answers.
#
# In the package: [`templates.py`](../ftkit/data/templates.py). Next:
# [06 domain adaptation](06_domain_adaptation.ipynb).

# %%
ft.progress()
