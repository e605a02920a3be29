# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 · Catastrophic forgetting, and six things to do about it
#
# **Claim: LoRA freezes the base, so nothing is forgotten; for the rest there is early stopping.**
# It could be wrong. After this lesson you can
#
# - measure forgetting, and tell lost knowledge from a lost form;
# - write two remedies yourself (L2-SP, WiSE-FT) and use four more;
# - compare remedies fairly: at **equal learning**, or the one that learns least wins.
#
# *About 35 minutes. The code needs a minute on two CPU cores. It builds on
# [07](07_learning_rate.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

SEEDS = (0, 1, 2)
ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"You fine-tuned an assistant on one narrow task. The task works; users say the rest got worse.
# > Show me that they are right, and what you would do."*
#
# The usual answer is a list: "lower rate, LoRA, early stopping, mix in old data." Which of them, at
# what price? That can be measured.
#
# ## An assistant, and a narrow job
# <!-- claims: C7 C67 C68 C69 · E15 -->
#
# First a model worth keeping, tuned on 31 small tasks. Then the job: what is a clause of a contract
# about? We look at three numbers: `target` (clauses it has not seen), `kept` (the 31 old tasks), and
# `probes` (plain sentences to finish, which measure what the base knew).

# %%
general = ft.Experiment(data="tasks", eval_records=32).run(
    learning_rate=1e-3, max_steps=70, eval_steps=70)
tokenizer = general.tokenizer
narrow = ft.Experiment(model=(general.model, tokenizer), data="contracts_task",
                       probes=("tasks",), replay_from="tasks", eval_records=16)

# %%
target, old = ft.records("contracts_task", "test")[:40], ft.records("tasks", "test")[::8]
plain_sentences = ft.load_probes()[::20]


def measure(model):
    known = ft.probe_scores(model, tokenizer, plain_sentences).values()
    return {"target": ft.exact_match(model, tokenizer, target),
            "kept": ft.exact_match(model, tokenizer, old),
            "probes": sum(known) / len(known)}


before = measure(general.model)
before

# %%
guess = ft.predict("After 20 steps on clauses at rate 0.001, of the old tasks' exact match remains ...",
                   "nearly all", "about half", "nothing", guess=...)
guess

# %%
base = ft.Config(batch_size=8, max_steps=20, eval_steps=1000)
hurt = narrow.run(base, learning_rate=1e-3, live=False)
after = measure(hurt.model)
share = after["kept"] / before["kept"]
guess.score("nearly all" if share > 0.8 else "about half" if share > 0.2 else "nothing")

# %%
ft.table([{"": "before", **before}, {"": "after", **after}])

# %% [markdown]
# ## Knowledge, or form?
#
# Read what it says now, and how the `probes`, which have no form of an answer, fared against the
# tasks. Is the rest gone, or is it buried?

# %%
ft.table([{"asked": f"{r['instruction']} {r['input']}", "wanted": r["output"], "says": says}
          for r, says in zip(old[::9], ft.answers(hurt.model, tokenizer, old[::9]), strict=True)])

# %%
again = ft.predict("Eight steps on old tasks, from the hurt model and from the untuned base. `kept` is ...",
                   "the same: what is lost is lost", "much higher from the hurt model", guess=...)
again

# %%
short = ft.Config(max_steps=8, eval_steps=1000, learning_rate=5e-4)
back = {name: [ft.exact_match(ft.Experiment(
    model=m, data="tasks", probes=(), eval_records=8).run(short, seed=seed, live=False).model,
    tokenizer, old) for seed in SEEDS]
    for name, m in {"hurt": (hurt.model, tokenizer), "base": "tiny"}.items()}
ft.expect(back["hurt"], ">", after["kept"], "a few steps bring much of it back")
ft.expect(back["hurt"], ">", back["base"], "which the base cannot do in so few: it was still there")
again.score(again.options[sum(back["hurt"]) > 1.5 * sum(back["base"])])

# %% [markdown]
# A lost answer is not always lost knowledge. Whoever reports a benchmark drop should say how much of
# it is form (the answer comes in the new task's words), how much is gone, and how cheaply it returns.
#
# ## Remedy by hand: a leash
# <!-- claims: C95 · E17 -->
#
# **L2-SP** ([Li et al. 2018](https://arxiv.org/abs/1802.01483)) adds λ/2 · ‖w − w₀‖² to the loss, w₀
# being where the run started. Weight decay pulls to *zero*, this pulls *home*.

# %%
import copy

import torch

from ftkit.data import encoding
from ftkit.engine import loop

examples = encoding.encode_all(narrow.train, tokenizer).examples
order = loop.shuffled(len(examples), 8, seed=0)
batches = [encoding.collate([examples[i] for i in next(order)], tokenizer.pad_token_id)
           for _ in range(6)]


# %%
def on_a_leash(strength):
    model, losses = copy.deepcopy(general.model).train(), []
    home = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for batch in batches:
        loss = model(**batch).loss
        away = sum((p - h).square().sum() for p, h in zip(model.parameters(), home, strict=True))
        (loss + strength / 2 * away).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %%
same = ft.Config(learning_rate=1e-3, batch_size=8, max_steps=6, l2_sp=1.0, precision="fp32",
                 warmup_steps=0, lr_scheduler_type="constant", max_grad_norm=0, eval_steps=6)
rows = narrow.run(same, live=False).rows
assert all(abs(mine - row["loss"]) < 2e-3
           for mine, row in zip(on_a_leash(1.0), rows, strict=True))

# %% [markdown]
# Your six steps equal the package's. In LoRA the base is frozen and `w − w₀` is B·A: `l2_sp` refuses
# that, rather than mean something else.
#
# ## Remedy by hand: half way back
# <!-- claims: C95 · E18 -->
#
# **WiSE-FT** ([Wortsman et al. 2022](https://arxiv.org/abs/2109.01903)): after the run, mix the old
# and the new weights. No training at all.

# %%
from ftkit.model.merge import blend

mixed = copy.deepcopy(general.model)
for w, new in zip(mixed.parameters(), hurt.model.parameters(), strict=True):
    w.data = 0.4 * w.data + 0.6 * new.data
with torch.no_grad():
    pair = [m(**batches[0]).logits for m in (mixed, blend(general.model, hurt.model, 0.6))]
assert torch.allclose(*pair, atol=1e-3)

# %% [markdown]
# ## The frontier
# <!-- claims: C99 C70 · E19 -->
#
# Each point is an arm: right is learned, up is kept. First full fine-tuning at three rates, joined by
# a gray line. It is the bar: a remedy must end **above** it.

# %%
safest = ft.predict("The rate that keeps most of the old tasks has a target score ...",
                    "as good as the others", "of almost nothing", guess=...)
safest

# %%
from ftkit.lessons.run_pictures import Frontier

rates = {"full 0.0001": base.but(learning_rate=1e-4), "full 0.0003": base.but(learning_rate=3e-4),
         "full 0.001": base.but(learning_rate=1e-3, eval_steps=4)}
front = Frontier(measure, x="target", y="kept", before=before, joined=list(rates))
front.train(narrow, rates, SEEDS).table("target", "kept", "probes")

# %%
learned, kept = ({arm: front.values(arm, key) for arm in rates} for key in ("target", "kept"))
ft.expect(kept["full 0.0001"], ">", kept["full 0.001"], "the low rate keeps more")
ft.expect(learned["full 0.0001"], "<", learned["full 0.001"], "because it learned less")
ft.expect(kept["full 0.001"], "<", before["kept"] - 0.2, "at 0.001 the old tasks are hurt")
safe = max(rates, key=lambda arm: sum(kept[arm]))
safest.score(safest.options[sum(learned[safe]) < max(map(sum, learned.values())) / 4])

# %% [markdown]
# So "lower the rate" alone is a walk along the line, not above it.
#
# ## Six remedies
# <!-- claims: C70 C71 C72 C73 C95 · E16 E17 E18 E19 E22 -->
#
# Same data; 20 steps at rate 0.001 unless the name says otherwise. Guess the winner.

# %%
winner = ft.predict("At equal learning, most of the old tasks is kept by ...",
                    "replay", "LoRA", "L2-SP", "WiSE-FT", "early stopping", guess=...)
winner

# %%
start = base.but(learning_rate=1e-3)
remedies = {
    "early stopping": start.but(eval_steps=2, early_stopping_patience=2,
                                metric_for_best_model="tasks_loss"),
    "0.0003, 32 steps": base.but(learning_rate=3e-4, max_steps=32),
    "replay 25 %": start.but(replay=0.25),
    "LoRA 0.005, 32 steps": base.but(method="lora", learning_rate=5e-3, max_steps=32),
    "L2-SP 1": start.but(l2_sp=1.0),
}
front.train(narrow, remedies, SEEDS).table("target", "kept", "probes")

# %% [markdown]
# WiSE-FT needs no runs of its own, only the models of one arm and the old one.

# %%
front.blend(general.model, "full 0.001", shares=(0.5, 0.7))

# %% [markdown]
# Now compare at equal learning: how far above the line of full fine-tuning does each end? (Right of
# its last point the height of that point counts.)

# %%
above = {arm: front.gain(arm) for arm in front.conditions if arm not in rates}
for arm in ("replay 25 %", "L2-SP 1", "full 0.001, blend 0.7", "0.0003, 32 steps"):
    ft.expect(above[arm], ">", 0, f"{arm}: more is kept at equal learning")
ft.table([{"remedy": arm, "above the line": gain} for arm, gain in above.items()])

# %%
ft.expect(front.values("LoRA 0.005, 32 steps", "kept"), "<", front.values("0.0003, 32 steps", "kept"),
          "LoRA is no rescue: full fine-tuning at a low rate, with as many steps, keeps more")
names = {"replay 25 %": "replay", "L2-SP 1": "L2-SP", "full 0.001, blend 0.7": "WiSE-FT"}
mean = {arm: sum(front.values(arm, "kept")) for arm in names}
winner.score(names[max(mean, key=mean.get)])

# %% [markdown]
# Replay needs the old data (or something like it). L2-SP needs a λ. WiSE-FT needs nothing but the old
# weights, after the fact. The lower rate with more steps pays in time, and is hard to beat. LoRA
# changes *which* directions move; the merged function changes all the same.
#
# ## What does early stopping watch?
# <!-- claims: C71 · E19 -->
#
# By default `val_loss`, the loss of the *new* task. Ours watched the loss of the *old* ones,
# `tasks_loss`. Here are both, in the runs at rate 0.001 that nothing stopped.

# %%
three, watching = front.conditions["full 0.001"], front.conditions["early stopping"]
evals = [[row["val_loss"] for row in run.rows if "val_loss" in row] for run in three]
ft.expect([at[-1] for at in evals], "<", [at[0] for at in evals],
          "by the loss of the new task all is well: it falls from step 4 to the end")
ft.expect([run.after["tasks_loss"] for run in three], ">", [run.before["tasks_loss"] for run in three],
          "while that of the old ones has risen")
ft.expect(front.values("early stopping", "target"), "<", learned["full 0.001"],
          "made to watch the old tasks, it stops before much is learned")
print(*(run.stopped for run in watching), sep="\n")
ft.curves(three, "val_loss", "tasks_loss")

# %% [markdown]
# The old tasks get worse from the first steps on. Stopping chooses a point on the path; it cannot
# leave the path. [Kalajdzievski 2024](https://arxiv.org/abs/2401.05605) finds the same at scale.
#
# ## Break it: replay of the wrong things
# <!-- claims: C72 · E16 -->
#
# Replay only half of the old tasks. Does that protect the other half?

# %%
names = sorted({r["task"] for r in old})
groups = {"replayed": set(names[::2]), "not replayed": set(names[1::2])}
some = [r for r in ft.records("tasks") if r["task"] in groups["replayed"]]
half = ft.Experiment(model=(general.model, tokenizer), data="contracts_task", probes=(),
                     replay_from=some, eval_records=8)
halved = [half.run(start, replay=0.25, seed=seed, live=False).model for seed in SEEDS]

# %%
def by_group(models):
    return {group: [ft.exact_match(m, tokenizer, [r for r in old if r["task"] in members])
                    for m in models] for group, members in groups.items()}


bare, helped = by_group([run.model for run in three]), by_group(halved)
ft.expect(helped["replayed"], ">", bare["replayed"], "what is replayed is kept")
ft.expect(helped["not replayed"], ">", bare["not replayed"], "and so is some of the rest")
ft.table([{"replay": "none", **bare}, {"replay": "half of the tasks", **helped}])

# %% [markdown]
# So replay need not hold *every* old skill: here records of the same kind (short questions, short
# answers) were enough to keep the form. Do not count on it for skills that share nothing with them.
#
# ## One task after the other
#
# Three jobs in a row. Row: after which job; column: exact match on which. The mean change of a job
# between its own turn and the end is the **backward transfer**
# ([Lopez-Paz and Ranzato 2017](https://arxiv.org/abs/1706.08840)).

# %%
jobs = ["contracts_task", "finance_task", "code_task"]
tests = {job: ft.records(job, "test")[:20] for job in jobs}
model, matrix = (general.model, tokenizer), []
for job in jobs:
    step = ft.Experiment(model=model, data=job, probes=(), eval_records=8).run(
        start, max_steps=30, live=False)
    model = (step.model, tokenizer)
    matrix.append([ft.exact_match(*model, tests[column]) for column in jobs])
ft.table([{"after": job, **dict(zip(jobs, row, strict=True))}
          for job, row in zip(jobs, matrix, strict=True)])

# %% [markdown]
# Below the diagonal stands what is left of a job after its turn.
#
# ## What if?
#
# One line to change: two remedies at once, another λ, less replay. What is the smallest replay that
# keeps nine tenths?

# %%
mine = {"mine": start.but(replay=0.1, l2_sp=0.3)}
front.train(narrow, mine, seeds=[0]).table("target", "kept", "probes")

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2, a few steps at a rate too high for it, then half way back.

# %%

REAL = download.has("smollm2")
if REAL:
    lab = ft.Experiment(model="smollm2", data="handwritten", eval_records=6)
    run = lab.run(max_steps=5, batch_size=4, max_length=160, learning_rate=1.5e-3, eval_steps=5)
    home, words = ft.load("smollm2")
    prose = encoding.encode_all(ft.records("general", "validation")[:6], words).examples
    losses = {share: ft.loss_on(blend(home, run.model, share), prose) for share in (0, 0.5, 1)}
    ft.expect(losses[1], ">", losses[0], "plain prose is lost")
    ft.expect(losses[0.5], "<", losses[1], "half way back, less of it")
    print({share: round(loss, 2) for share, loss in losses.items()})


# %% [markdown]
# ## Exercises
#
# **1.** The gradient that AdamW should see under L2-SP, for tensors: weight `w`, its start `w0`, the
# gradient `g` of the loss, strength `lam`.

# %% tags=["raises-exception"]
def l2_sp_gradient(w, w0, g, lam):
    ...


ft.check("l2_sp_gradient", l2_sp_gradient)


# %% [markdown]
# **2.** Choose the share of WiSE-FT. `validation` and `test` are dicts: share → (target, kept). Among
# the shares whose target reaches `floor`, take the one that keeps most; return it and the pair you
# would *report*.

# %% tags=["raises-exception"]
def choose_share(validation, test, floor):
    ...


ft.check("choose_share", choose_share)


# %% [markdown]
# **3.** Backward transfer of a matrix like the one above (a list of rows): the mean over all jobs but
# the last of (score at the end − score after its own turn). Negative is forgetting.

# %% tags=["raises-exception"]
def backward_transfer(matrix):
    ...


ft.check("backward_transfer", backward_transfer)

# %% [markdown]
# ## Interview
#
# **How do you prevent catastrophic forgetting?**
# <details><summary>Answer</summary>
# Measure first: a fixed suite before and after. Then replay a share of old data, a lower rate for more
# steps, a pull to the old weights (L2-SP), or interpolation afterwards (WiSE-FT), compared at equal
# target. Here 25 % replay raised what was kept from 0.36 to 0.68, at no cost in the target.
# </details>
#
# **Does LoRA prevent it?**
# <details><summary>Answer</summary>
# No. The base is frozen, the function is not. Our LoRA runs kept 0.47 of the old tasks where full
# fine-tuning at a low rate, with as many steps, kept 0.65. On large models it forgets less and learns
# less (Biderman et al. 2024): show both axes, with three seeds.
# </details>
#
# **Early stopping?**
# <details><summary>Answer</summary>
# As a rule it watches the new task, whose loss falls while the old ones rot: no reason to stop. Made to
# watch the old tasks, ours stopped before anything was learned. It picks a point of the trade-off and
# cannot leave it.
# </details>

# %% [markdown]
# **A benchmark fell by 30 points. Is the knowledge gone?**
# <details><summary>Answer</summary>
# Look at the answers and at log-probabilities before you say so. Our hurt model gave some answers
# in the new task's words, and 8 steps on old records brought it from 0.33 to 0.76, where an untuned
# base came to 0.17.
# </details>
#
# **Weight decay or L2-SP?**
# <details><summary>Answer</summary>
# Weight decay pulls to zero, by rate × decay × steps: 0.001 · 0.1 · 20 is 0.2 % of a weight, so hardly
# at all (lesson 17 tries it). L2-SP pulls to the start and moved us above the line. In LoRA there is
# nothing to pull.
# </details>
#
# ## Recap
#
# - Learned and kept are two axes. Compare remedies at equal learning.
# - Above the line here: replay, L2-SP, WiSE-FT, a low rate with more steps. LoRA less far, and
#   it kept less than that low rate; early stopping is a point of the path.
# - Much of the loss was form, and form is cheap to bring back. Replay of a part kept more than the part.
#
# Next: lesson 17, overfitting, the other way to train too long.
