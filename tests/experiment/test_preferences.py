"""DPO and GRPO: losses and log-probabilities held to TRL's trainers, then what a run does."""

import copy
import math

import pytest
import torch

from ftkit.base.config import Config, DPOConfig, GRPOConfig
from ftkit.data import encoding, schema
from ftkit.data.jsonl import DataError
from ftkit.engine import generation
from ftkit.experiment import preferences, store
from ftkit.model import loading

PAIRS = schema.records("preferences")[:12]


@pytest.fixture(scope="module")
def tiny():
    return loading.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def moved(tiny):
    """Another policy than the reference: the base with every weight a little off."""
    model = copy.deepcopy(tiny[0])
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * p.std() * torch.randn_like(p) if p.ndim > 1 else 0)
    return model


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    pytest.importorskip("trl")
    return {"output_dir": str(tmp_path_factory.mktemp("trl")), "use_cpu": True, "bf16": False,
            "gradient_checkpointing": False, "report_to": [], "disable_tqdm": True}


# ------------------------------------------------------------------------------ against TRL


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo_equals_trl_on_the_same_batch(tiny, moved, theirs, beta):
    import trl
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    reference, tokenizer = tiny
    pairs = preferences.pair_examples(PAIRS, tokenizer)
    with torch.no_grad():
        both = [e for side in zip(*pairs, strict=True) for e in side]
        scores = [preferences.log_probs(m, both)[0]
                  .sum(1).view(2, -1) for m in (moved, reference)]
        loss, seen = preferences.dpo_loss(*scores, beta)

    rows = []
    for pair in pairs:
        prompt = next(i for i, label in enumerate(pair[0]["labels"]) if label != -100)
        ids = [e["input_ids"] for e in pair]
        rows.append({"prompt_ids": ids[0][:prompt], "chosen_ids": ids[0][prompt:],
                     "rejected_ids": ids[1][prompt:]})
    trainer = trl.DPOTrainer(
        copy.deepcopy(moved), copy.deepcopy(reference), trl.DPOConfig(beta=beta, **theirs),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=tokenizer)
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(rows)
    trainer.model.train()  # it has no dropout; the numbers are logged under "train"
    with torch.no_grad():
        wanted = trainer.compute_loss(trainer.model, batch)
    logged = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    for ours, name in (("chosen", "logps/chosen"), ("rejected", "logps/rejected"),
                       ("margin", "rewards/margins"), ("accuracy", "rewards/accuracies")):
        assert seen[ours] == pytest.approx(logged[name], rel=1e-5, abs=1e-5), ours
    assert abs(seen["margin"]) > 0.05  # the two models do differ


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_grpo_equals_trl_on_answers_that_trl_drew(tiny, moved, theirs, beta):
    import trl
    from datasets import Dataset

    reference, tokenizer = tiny
    questions = ["The capital of France is", "The opposite of hot is"]
    given = []

    def reward(completions, **others):
        given.extend(float(len(text) % 3) for text in completions)
        return given[-len(completions):]

    args = trl.GRPOConfig(
        beta=beta, num_generations=4, per_device_train_batch_size=8, loss_type="grpo",
        max_completion_length=6, epsilon=0.2, num_iterations=2, **theirs)
    trainer = trl.GRPOTrainer(
        copy.deepcopy(reference), reward, args, processing_class=copy.deepcopy(tokenizer),
        train_dataset=Dataset.from_list([{"prompt": q} for q in questions]))
    trainer.model.train()
    torch.manual_seed(0)
    drawn = trainer._generate_and_score_completions(
        [{"prompt": q} for q in questions for _ in range(4)])
    ours = preferences.advantages(torch.tensor(given).view(2, 4)).flatten()
    assert torch.allclose(ours, drawn["advantages"], atol=1e-5)

    trainer.model.load_state_dict(moved.state_dict())
    trainer.model.eval()  # no dropout anywhere; in train mode the loss is divided for accumulation
    with torch.no_grad():
        wanted = trainer._compute_loss(trainer.model, drawn)
    examples = []
    for i in range(8):
        prompt, answer = (drawn[f"{k}_ids"][i][drawn[f"{k}_mask"][i].bool()].tolist()
                          for k in ("prompt", "completion"))
        examples.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    with torch.no_grad():
        (policy, mask), (old, _) = (preferences.log_probs(m, examples) for m in (moved, reference))
        loss = preferences.grpo_loss(policy, old, mask, ours, 0.2, old, beta)
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    ratio = (policy - old).exp()[mask.bool()]
    assert ((ratio - 1).abs() > 0.2).any()  # the clip was at work


# ------------------------------------------------------------------------------ by hand


def test_log_probs_are_those_of_one_padded_pass(tiny):
    model, tokenizer = tiny
    examples = [e for pair in preferences.pair_examples(PAIRS, tokenizer) for e in pair]
    batch = encoding.collate(examples, tokenizer.pad_token_id)
    labels = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        each = model(**batch).logits[:, :-1].log_softmax(-1)
        each = each.gather(-1, labels.clamp(min=0)[..., None])[..., 0] * (labels != -100)
        ours, mask = preferences.log_probs(model, examples)
    assert torch.allclose(ours.sum(1), each.sum(1), atol=1e-4)
    assert mask.sum(1).tolist() == (labels != -100).sum(1).tolist()


def test_a_model_without_the_fast_path_gets_the_same_log_probs(tiny, monkeypatch):
    from ftkit.engine import packed_loss

    examples = [pair[1] for pair in preferences.pair_examples(PAIRS, tiny[1])]
    with torch.no_grad():
        quick = preferences.log_probs(tiny[0], examples)[0]
        monkeypatch.setattr(packed_loss, "why_padded", lambda model: "a test")
        slow = preferences.log_probs(tiny[0], examples)[0]
    assert torch.allclose(quick, slow, atol=1e-4)


def test_advantages_of_two_right_of_eight_and_of_a_dead_group():
    rewards = torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0], [1.0] * 8])
    made = preferences.advantages(rewards)
    assert made[0, 0].item() == pytest.approx(0.75 / math.sqrt(12 / 56), abs=1e-3)  # 1.62
    assert made[0, 7].item() == pytest.approx(-0.25 / math.sqrt(12 / 56), abs=1e-3)  # -0.54
    assert made[1].abs().max() == 0


def test_dpo_starts_at_ln_2_and_knows_its_direction():
    start = torch.tensor([[-3.0, -9.0], [-1.0, -2.0]])
    assert preferences.dpo_loss(start, start, 0.1)[0].item() == pytest.approx(math.log(2))
    better = start + torch.tensor([[0.0], [-10.0]])
    loss, seen = preferences.dpo_loss(better, start, 0.1)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))  # beta · 10 = 1
    assert seen["margin"] == pytest.approx(1.0) and seen["accuracy"] == 1.0


def test_k3_is_the_kl_on_average_and_never_negative():
    torch.manual_seed(0)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    draws = torch.multinomial(p, 200_000, replacement=True)
    made = preferences.k3(p.log()[draws], q.log()[draws])
    assert made.min() >= 0
    assert made.mean().item() == pytest.approx((p * (p / q).log()).sum().item(), rel=0.02)


# ------------------------------------------------------------------------------ drawing


def test_drawn_tokens_follow_the_distribution_of_the_model(tiny):
    model, tokenizer = tiny
    prompt = tokenizer("The", add_special_tokens=False)["input_ids"]
    torch.manual_seed(0)
    drawn = generation.generate(model, [prompt] * 4000, 1, temperature=1.5)
    with torch.no_grad():
        p = (model(torch.tensor([prompt])).logits[0, -1] / 1.5).softmax(-1)
    share = torch.bincount(torch.tensor(drawn).flatten(), minlength=len(p)) / 4000
    top = p.topk(8).indices
    sigma = (p[top] * (1 - p[top]) / 4000).sqrt()
    assert ((share[top] - p[top]).abs() < 4.5 * sigma).all()


def test_a_cold_draw_is_greedy_and_a_seed_repeats_a_draw(tiny):
    prompts = encoding.prompts(schema.records("capital")[:6], tiny[1])
    greedy = generation.generate(tiny[0], prompts, 6)
    assert generation.generate(tiny[0], prompts, 6, temperature=1e-4) == greedy
    twice = []
    for _ in range(2):
        torch.manual_seed(3)
        twice.append(generation.generate(tiny[0], prompts, 6, temperature=1.0))
    assert twice[0] == twice[1] != greedy


def test_drawing_without_the_fast_path_follows_the_distribution_too(tiny, monkeypatch):
    monkeypatch.setattr(generation, "why_padded", lambda model: "a test")
    prompt = tiny[1]("The", add_special_tokens=False)["input_ids"]
    torch.manual_seed(0)
    drawn = generation.generate(tiny[0], [prompt] * 1500, 1, temperature=1.0)
    with torch.no_grad():
        p = tiny[0](torch.tensor([prompt])).logits[0, -1].softmax(-1)
    share = torch.bincount(torch.tensor(drawn).flatten(), minlength=len(p)) / 1500
    assert (share - p).abs().max() < 4.5 * (0.25 / 1500) ** 0.5


# ------------------------------------------------------------------------------ runs


def test_a_dpo_run_prefers_what_was_chosen(tiny):
    lab = preferences.DPO(data=schema.records("preferences")[:24], val=PAIRS, probes=())
    happened = lab.run(max_steps=8, batch_size=8, learning_rate=1e-4, beta=0.5, live=False)
    assert happened.rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert happened.before["val_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert happened.after["val_margin"] > 1 and happened.after["val_accuracy"] >= 0.75
    assert happened.rows[-1]["margin"] > happened.rows[0]["margin"]
    again = store.load_run(happened.id)
    assert again.config == happened.config and again.config.beta == 0.5
    assert type(again.config) is DPOConfig and again.rows[2]["margin"] == happened.rows[2]["margin"]


def test_accumulated_pairs_are_one_big_batch():
    lab = preferences.DPO(data=schema.records("preferences")[:24], val=PAIRS, probes=())
    same = {"max_steps": 3, "learning_rate": 1e-4, "precision": "fp32", "live": False}
    big = lab.run(batch_size=8, **same)
    small = lab.run(batch_size=4, gradient_accumulation_steps=2, **same)
    for a, b in zip(big.rows, small.rows, strict=True):
        for key in ("loss", "margin", "chosen", "grad_norm", "tokens"):
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-5), key


def lazy_reward(answer, record):
    return float(len(answer) % 2)


def test_a_grpo_run_earns_more_and_says_what_it_did():
    lab = preferences.GRPO(lambda answer, record: min(1.0, len(answer) / 40), data="capital",
                           probes=(), eval_records=4)
    config = GRPOConfig(max_steps=6, batch_size=4, num_generations=4, learning_rate=1e-3,
                        max_completion_length=12, beta=0.01, num_iterations=2)
    happened = lab.run(config, live=False)
    rows = happened.rows
    assert [r["reward"] for r in rows[::2]] == [r["reward"] for r in rows[1::2]]
    assert all(r["clipped"] == 0 and abs(r["loss"]) < 1e-4 for r in rows[:1])
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0
    assert {"reward", "dead", "length", "clipped", "kl"} <= rows[0].keys()
    assert store.load_run(happened.id).config == config.but(
        **{k: getattr(happened.config, k) for k in ("learning_rate", "precision", "max_length")})


def test_a_group_that_agrees_moves_nothing():
    lab = preferences.GRPO(lambda answer, record: 1.0, data="capital", probes=(), eval_records=4)
    happened = lab.run(max_steps=1, batch_size=2, num_generations=2, live=False)
    row = happened.rows[0]
    assert row["dead"] == 1.0 and row["grad_norm"] == 0.0 and row["loss"] == 0.0


def test_the_same_seed_gives_the_same_rows():
    lab = preferences.GRPO(lazy_reward, data="capital", probes=(), eval_records=4)
    seen = [[(r["reward"], r["loss"]) for r in lab.run(
        max_steps=2, batch_size=2, num_generations=4, seed=seed, live=False).rows]
        for seed in (5, 5, 6)]
    assert seen[0] == seen[1] != seen[2]


def test_lora_starts_as_its_own_reference():
    lab = preferences.DPO(data=PAIRS, val=PAIRS[:4], probes=())
    happened = lab.run(max_steps=1, batch_size=4, method="lora", live=False)
    assert happened.before["val_loss"] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("call, words", [
    (lambda: preferences.DPO(data="capital"), "needs preference records"),
    (lambda: preferences.DPO(data=PAIRS).run(Config()), "give a DPOConfig"),
    (lambda: preferences.DPO(data=PAIRS).run(replay=0.1), "leave replay out"),
    (lambda: preferences.GRPO(preferences.exact).run(gradient_accumulation_steps=2),
     "leave gradient_accumulation_steps out"),
    (lambda: DPOConfig(beta=-1), "beta is -1"),
    (lambda: GRPOConfig(num_generations=1), "num_generations is 1"),
    (lambda: DPOConfig().but(betta=1), "did you mean beta"),
])
def test_errors_say_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_pair_of_two_equal_sides_is_named(tiny):
    bad = [*PAIRS[:2], PAIRS[2] | {"rejected": PAIRS[2]["chosen"]}]
    with pytest.raises(DataError, match="same tokens as chosen") as caught:
        preferences.pair_examples(schema.Records(bad), tiny[1])
    assert caught.value.problems[0].row == 3
