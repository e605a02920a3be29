"""DPO and GRPO: losses and log-probabilities held to TRL's trainers, then what a run does."""

import copy
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


@pytest.fixture(scope="module")
def scored(tiny, moved):
    """Pairs of examples; of policy and reference the summed log-probabilities; the lengths."""
    pairs = preferences.pair_examples(PAIRS, tiny[1])
    policy, lengths = scores_of(moved, pairs)
    return pairs, policy, scores_of(tiny[0], pairs)[0], lengths


def scores_of(model, pairs):
    with torch.no_grad():
        made = preferences.log_probs(model, [e for side in zip(*pairs, strict=True) for e in side])
    return [part.sum(1).view(2, -1) for part in made]


def split(example):
    """Token ids of the prompt and of the answer."""
    start = next(i for i, label in enumerate(example["labels"]) if label != -100)
    return example["input_ids"][:start], example["input_ids"][start:]


def loss_of_trl(trainer, batch):
    trainer.model.train()  # it has no dropout; the numbers are logged under "train"
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch)
    return loss.item(), {k: v[-1] for k, v in trainer._metrics["train"].items()}


def columns(rows, *names):
    from datasets import Dataset

    return Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows])


LOGGED = (("chosen", "logps/chosen"), ("rejected", "logps/rejected"),
          ("margin", "rewards/margins"), ("accuracy", "rewards/accuracies"))


@pytest.mark.parametrize("loss_type, beta", [("sigmoid", 0.1), ("sigmoid", 1.0), ("ipo", 0.5),
                                             ("sft", 0.1)])
def test_losses_of_pairs_equal_trl_on_the_same_batch(tiny, moved, theirs, scored, loss_type, beta):
    import trl
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    pairs, policy, reference, lengths = scored
    config = DPOConfig(loss_type=loss_type, beta=beta)
    loss, seen = losses.of_pairs(config, policy, reference, lengths)
    trainer = trl.DPOTrainer(
        copy.deepcopy(moved), copy.deepcopy(tiny[0]),
        trl.DPOConfig(beta=beta, loss_type=loss_type, **theirs),
        train_dataset=columns(["abc"], "prompt", "chosen", "rejected"), processing_class=tiny[1])
    rows = [{"prompt_ids": split(a)[0], "chosen_ids": split(a)[1], "rejected_ids": split(b)[1]}
            for a, b in pairs]
    wanted, logged = loss_of_trl(
        trainer, DataCollatorForPreference(pad_token_id=tiny[1].pad_token_id)(rows))
    assert loss.item() == pytest.approx(wanted, abs=1e-5)
    for ours, name in LOGGED:
        assert seen[ours] == pytest.approx(logged[name], rel=1e-5, abs=1e-5), ours
    assert abs(seen["margin"]) > 0.05  # the two models do differ
    assert_no_other_sign_or_length_passes(config, policy, reference, lengths, wanted)


def assert_no_other_sign_or_length_passes(config, policy, reference, lengths, wanted, kl=None):
    """A broken sign, or sums where means are meant, moves the loss away from TRL's."""
    broken = [(policy.flip(0), None if reference is None else reference.flip(0), lengths.flip(0))]
    if config.loss_type not in ("sigmoid", "kto"):
        broken.append((policy, reference, torch.ones_like(lengths)))
    if reference is not None and config.loss_type != "sft":
        broken.append((policy, -reference, lengths))
    for values in broken:
        assert abs(losses.of_pairs(config, *values, kl)[0].item() - wanted) > 1e-3


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_kto_equals_trl_on_the_same_batch(tiny, moved, theirs, scored, beta):
    import trl
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    pairs, policy, reference, lengths = scored
    others = preferences.mismatched(pairs, None)
    kl = (scores_of(moved, others)[0] - scores_of(tiny[0], others)[0]).mean().clamp(min=0)
    config = DPOConfig(loss_type="kto", beta=beta)
    loss, seen = losses.of_pairs(config, policy, reference, lengths, kl)
    trainer = trl.KTOTrainer(
        copy.deepcopy(moved), copy.deepcopy(tiny[0]),
        trl.KTOConfig(beta=beta, per_device_train_batch_size=2, **theirs),
        train_dataset=columns([["a", "b", True], ["c", "d", False]],
                              "prompt", "completion", "label"), processing_class=tiny[1])
    rows = [{"prompt_ids": split(pair[side])[0], "completion_ids": split(pair[side])[1],
             "KL_completion_ids": split(before[side])[1], "label": side == 0}
            for side in (0, 1) for before, pair in zip([pairs[-1], *pairs], pairs, strict=False)]
    wanted, logged = loss_of_trl(
        trainer, DataCollatorForUnpairedPreference(pad_token_id=tiny[1].pad_token_id)(rows))
    assert loss.item() == pytest.approx(wanted, abs=1e-5)
    assert seen["kl"] == pytest.approx(logged["kl"], rel=1e-5, abs=1e-4)
    for ours, name in LOGGED[:3]:
        assert seen[ours] == pytest.approx(logged[name], rel=1e-5, abs=1e-5), ours
    assert_no_other_sign_or_length_passes(config, policy, reference, lengths, wanted, kl)
    assert kl > 0.1
    for wrong in (-kl, kl * 0):
        assert abs(losses.kto(policy, reference, wrong, beta)[0].item() - wanted) > 2e-5


@pytest.mark.parametrize("loss_type, beta, gamma", [
    ("orpo", 0.1, 0.5), ("orpo", 1.0, 0.5), ("simpo", 2.0, 0.5), ("simpo", 2.0, 1.4)])
def test_losses_without_reference_equal_trl(moved, tiny, theirs, loss_type, beta, gamma):
    """Prompts of one token: TRL's SFT term of ORPO would also train on the others."""
    from trl.experimental import cpo, orpo

    tokenizer, pairs = tiny[1], []
    for pair in preferences.pair_examples(PAIRS, tokenizer):
        pairs.append(tuple({"input_ids": [split(e)[0][-1], *split(e)[1]],
                            "labels": [-100, *split(e)[1]]} for e in pair))
    policy, lengths = scores_of(moved, pairs)
    config = DPOConfig(loss_type=loss_type, beta=beta, simpo_gamma=gamma)
    loss, seen = losses.of_pairs(config, policy, None, lengths)
    if loss_type == "orpo":
        trainer_class, args = orpo.ORPOTrainer, orpo.ORPOConfig(beta=beta, **theirs)
    else:
        trainer_class, args = cpo.CPOTrainer, cpo.CPOConfig(
            beta=beta, loss_type="simpo", simpo_gamma=gamma, cpo_alpha=0.0, **theirs)
    trainer = trainer_class(copy.deepcopy(moved), args, processing_class=tokenizer,
                            train_dataset=columns(["abc"], "prompt", "chosen", "rejected"))
    batch = {}
    for side, name in enumerate(("chosen", "rejected")):
        made = encoding.collate([pair[side] for pair in pairs], tokenizer.pad_token_id)
        batch |= {f"{name}_input_ids": made["input_ids"], f"{name}_labels": made["labels"],
                  f"{name}_attention_mask": made["attention_mask"]}
    with torch.no_grad():
        wanted, logged = trainer.get_batch_loss_metrics(trainer.model, batch)
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    for ours, name in LOGGED[2:]:
        assert seen[ours] == pytest.approx(float(logged[name]), rel=1e-5, abs=1e-5), ours
    assert_no_other_sign_or_length_passes(config, policy, None, lengths, wanted.item())


GRPO_KINDS = [
    {"beta": 0.0}, {"beta": 0.3}, {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.3},
    {"loss_type": "bnpo", "scale_rewards": "batch"}, {"loss_type": "dapo", "epsilon_high": 0.28},
    {"importance_sampling_level": "sequence", "epsilon": 0.003},
    {"importance_sampling_level": "sequence", "epsilon": 0.003, "beta": 0.3, "loss_type": "dapo"}]


@pytest.fixture(scope="module")
def grpo_trainer(tiny, theirs):
    """TRL's trainer, the answers that it drew, and their rewards."""
    import trl

    questions, given = ["The capital of France is", "The opposite of hot is"], []

    def reward(completions, **others):
        given.extend(float(len(text) % 3) for text in completions)
        return given[-len(completions):]

    args = trl.GRPOConfig(
        beta=0.3, num_generations=4, per_device_train_batch_size=8, max_completion_length=6,
        num_iterations=2, **theirs)
    trainer = trl.GRPOTrainer(
        copy.deepcopy(tiny[0]), reward, args, processing_class=copy.deepcopy(tiny[1]),
        train_dataset=columns([[q] for q in questions], "prompt"))

    def draw(scale_rewards):
        given.clear()
        trainer.scale_rewards, trainer.beta = scale_rewards, 0.3  # so the reference is scored
        trainer.model.load_state_dict(tiny[0].state_dict())
        trainer.model.train()
        torch.manual_seed(0)
        drawn = trainer._generate_and_score_completions(
            [{"prompt": q} for q in questions for _ in range(4)])
        return drawn, torch.tensor(given).view(2, 4)

    return trainer, draw


@pytest.mark.parametrize("kind", GRPO_KINDS, ids=str)
def test_grpo_equals_trl_on_answers_that_trl_drew(tiny, moved, grpo_trainer, kind):
    config = GRPOConfig(**kind)
    trainer, draw = grpo_trainer
    drawn, rewards = draw(config.scale_rewards)
    ours = preferences.advantages(rewards, config.scale_rewards).flatten()
    assert torch.allclose(ours, drawn["advantages"], atol=1e-5)

    trainer.model.load_state_dict(moved.state_dict())
    trainer.model.eval()  # no dropout anywhere; in train mode the loss is divided for accumulation
    trainer.beta, trainer.loss_type, trainer.epsilon_low = (
        config.beta, config.loss_type, config.epsilon)
    trainer.epsilon_high = config.epsilon_high or config.epsilon
    trainer.importance_sampling_level = config.importance_sampling_level
    with torch.no_grad():
        wanted = trainer._compute_loss(trainer.model, drawn).item()
    examples = []
    for i in range(8):
        prompt, answer = (drawn[f"{k}_ids"][i][drawn[f"{k}_mask"][i].bool()].tolist()
                          for k in ("prompt", "completion"))
        examples.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    with torch.no_grad():
        (policy, mask), (old, _) = (preferences.log_probs(m, examples) for m in (moved, tiny[0]))

    def loss(config, policy=policy, gains=ours, tokens=6):
        return losses.grpo(policy, old, mask, gains, config, old, tokens).item()

    assert loss(config) == pytest.approx(wanted, abs=1e-5)
    assert losses.clipped(policy, old, mask, ours, config) > 0  # the clip was at work
    assert abs(loss(config, gains=-ours) - wanted) > 1e-3
    level = {"token": "sequence", "sequence": "token"}[config.importance_sampling_level]
    assert abs(loss(config.but(importance_sampling_level=level)) - wanted) > 1e-4


def test_token_averages_differ_where_answers_differ_in_length():
    """One long wrong answer: grpo weighs it like a short one, dapo by its tokens."""
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0]])
    zeros, gains = torch.zeros(2, 4), torch.tensor([-1.0, 1.0])

    def loss(kind):
        return losses.grpo(zeros, zeros, mask, gains, GRPOConfig(loss_type=kind),
                           max_tokens=8).item()

    assert loss("grpo") == pytest.approx(0.0)
    assert loss("dapo") == loss("bnpo") == pytest.approx(3 / 5)
    assert loss("dr_grpo") == pytest.approx(3 / 16)


def test_unscaled_advantages_are_those_of_rloo_but_for_a_factor():
    rewards = torch.tensor([[1.0, 0, 0, 3.0]])
    left_out = torch.stack([rewards[:, i] - rewards[:, [j for j in range(4) if j != i]].mean(1)
                            for i in range(4)], 1)
    assert torch.allclose(preferences.advantages(rewards, "none") * 4 / 3, left_out)


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
