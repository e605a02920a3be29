"""DPO and GRPO: measures, log-probabilities, drawing, and what a run does."""

import math

import pytest
import torch

from ftkit.base.config import Config, DPOConfig, GRPOConfig
from ftkit.data import encoding, schema
from ftkit.data.jsonl import DataError
from ftkit.engine import generation
from ftkit.experiment import preference_losses as losses
from ftkit.experiment import preferences, store
from ftkit.model import loading

PAIRS = schema.records("preferences")[:12]


@pytest.fixture(scope="module")
def tiny():
    return loading.load("tiny", device="cpu")


def split(example):
    """Token ids of the prompt and of the answer."""
    start = next(i for i, label in enumerate(example["labels"]) if label != -100)
    return example["input_ids"][:start], example["input_ids"][start:]


def test_the_measures_of_pairs_are_those_of_their_rewards():
    policy, reference = torch.tensor([[-3.0, -9.0], [-4.0, -2.0]]), torch.full((2, 2), -5.0)
    lengths = torch.tensor([[2.0, 4], [3, 5]])
    ratios = [[0.2, -0.4], [0.1, 0.3]]
    for kind, rewards in (("sigmoid", ratios), ("ipo", ratios),
                          ("simpo", [[-0.15, -0.225], [-4 / 30, -0.04]])):
        _, seen = losses.of_pairs(DPOConfig(loss_type=kind, beta=0.1), policy, reference, lengths)
        margins = [a - b for a, b in zip(*rewards, strict=True)]
        assert seen["margin"] == pytest.approx(sum(margins) / 2)
        assert seen["accuracy"] == sum(m > 0 for m in margins) / 2
        assert (seen["chosen"], seen["rejected"]) == (-6.0, -3.0)


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


def test_a_drawn_answer_does_not_depend_on_what_is_drawn_beside_it(tiny, monkeypatch):
    prompts = encoding.prompts(schema.records("capital")[:9], tiny[1])
    made = []
    for slots, at_once in ((1, 4000), (4, 4000), (9, 4000), (9, 1)):
        monkeypatch.setitem(generation.PREFILL_TOKENS, "cpu", at_once)
        torch.manual_seed(3)
        made.append(generation.generate(tiny[0], prompts, [8] * 5 + [2, 0, 5, 3], slots=slots,
                                        temperature=1.0))
    assert made == made[:1] * 4
    assert len(set(map(tuple, made[0]))) > 5


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


@pytest.mark.parametrize("loss_type, options", [
    ("ipo", {"beta": 0.2}), ("kto", {"beta": 0.5}), ("orpo", {"beta": 1.0}),
    ("simpo", {"beta": 2.0}), ("sft", {})])
def test_a_run_of_each_loss_lowers_it_and_records_its_measures(loss_type, options):
    lab = preferences.DPO(data=schema.records("preferences")[:24], val=PAIRS, probes=())
    made = lab.run(max_steps=8, batch_size=8, learning_rate=2e-4, loss_type=loss_type, live=False,
                   **options)
    first, last = made.rows[0], made.rows[-1]
    assert made.after["val_loss"] < made.before["val_loss"]
    assert {"accuracy", "margin", "chosen", "rejected", "chosen_length", "rejected_length"} <= (
        first.keys()) and f"val_{'kl' if loss_type == 'kto' else 'margin'}" in made.after
    if loss_type == "sft":
        assert last["chosen"] > first["chosen"]
    else:
        assert last["margin"] > first["margin"]
    if loss_type == "kto":
        assert first["loss"] == pytest.approx(0.5, abs=1e-3)
        assert first["kl"] == pytest.approx(0, abs=1e-2)  # in bf16, on some processors


def test_the_longest_answers_of_other_prompts_are_cut(tiny):
    pairs = preferences.pair_examples(PAIRS, tiny[1])
    whole, made = preferences.mismatched(pairs, None), preferences.mismatched(pairs, 20)
    assert all(len(e["input_ids"]) == len(e["labels"]) <= 20 for pair in made for e in pair)
    assert split(whole[1][0]) == (split(pairs[1][0])[0], split(pairs[0][0])[1])
    assert split(whole[0][1]) == (split(pairs[0][1])[0], split(pairs[-1][1])[1])
    assert made[1][0]["input_ids"] == whole[1][0]["input_ids"][:20]
    with pytest.raises(ValueError, match="only one pair"):
        preferences.mismatched(pairs[:1], 20)


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
    (lambda: preferences.DPO(data=PAIRS).run(Config()), "expected a DPOConfig"),
    (lambda: preferences.DPO(data=PAIRS).run(replay=0.1), "Leave replay out"),
    (lambda: preferences.DPO(data=PAIRS).run(loss_on="all"), "Leave loss_on out"),
    (lambda: DPOConfig(loss_type="hinge"), "expected one of sigmoid, ipo, kto"),
    (lambda: preferences.GRPO(preferences.exact).run(gradient_accumulation_steps=2),
     "Leave gradient_accumulation_steps out"),
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
