"""Losses and gradients of post-training against TRL's trainers on the same batch."""

import copy
import functools
import tempfile

import pytest
import torch

from ftkit.base.config import DPOConfig, GRPOConfig
from ftkit.data import encoding, schema
from ftkit.experiment import preference_losses as losses
from ftkit.experiment import preferences
from ftkit.model import loading

MAX_TOKENS = 12
ALL = [{"loss_type": kind} for kind in ("bnpo", "dr_grpo", "sapo", "luspo", "vespo")]
GRPO = [{"beta": 0.0}, {"beta": 0.3}, {"loss_type": "cispo", "epsilon_high": 1.02},
        {"loss_type": "cispo", "epsilon_high": 5.0}, {"loss_type": "dapo", "epsilon_high": 0.28},
        {"loss_type": "dr_grpo", "scale_rewards": "none"}, *ALL, *({**k, "beta": 0.3} for k in ALL),
        {"importance_sampling_level": "sequence", "epsilon": 0.003},
        {"importance_sampling_level": "sequence", "epsilon": 0.003, "loss_type": "luspo"},
        {"importance_sampling_level": "sequence", "epsilon": 0.003, "beta": 0.3},
        {"loss_type": "rloo"}, {"loss_type": "rloo", "beta": 0.3, "epsilon_high": 0.4}]
PAIRS = [("sigmoid", 0.1), ("sigmoid", 1.0), ("ipo", 0.5), ("sft", 0.1), ("kto", 0.1), ("kto", 0.7),
         ("orpo", 0.1), ("orpo", 1.0), ("simpo", 2.0)]
CASES = {f"{kind} {beta}": (kind, beta) for kind, beta in PAIRS} | {
    "grpo " + " ".join(map(str, options.values())): ("grpo", options) for options in GRPO} | {
    f"gkd {beta} {heat}": ("gkd", (beta, heat)) for beta in (0.0, 0.3, 1.0) for heat in (1.0, 0.7)
} | {"reward model": ("reward", 0.0), "reward model, margin": ("reward", 0.5)}


@functools.cache
def tiny():
    """The embedded model in fp64: in fp32 two ways to pad a batch differ by 5e-5 of a gradient."""
    model, tokenizer = loading.load("tiny", device="cpu")
    return model.double(), tokenizer


@functools.cache
def moved(seed=1, by=0.05):
    """Another policy than the embedded model: every weight is a little off."""
    model = copy.deepcopy(tiny()[0])
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * p.std() * torch.randn_like(p) if p.ndim > 1 else 0)
    return model


def split(example):
    """Token ids of the prompt and of the answer."""
    start = next(i for i, label in enumerate(example["labels"]) if label != -100)
    return example["input_ids"][:start], example["input_ids"][start:]


@functools.cache
def pairs(one_token: bool = False):
    """Pairs of examples; with prompts of one token, as TRL's ORPO trains on the prompt too."""
    made = preferences.pair_examples(schema.records("preferences")[:12], tiny()[1])
    return [tuple({"input_ids": split(e)[0][-1:] + split(e)[1], "labels": [-100, *split(e)[1]]}
                  for e in pair) for pair in made] if one_token else made


@functools.cache
def drawn():
    """Eight answers of 3 to 12 tokens to two questions, with rewards."""
    words = "Paris is a city in France and cold is what one calls the opposite of hot here".split()
    examples = []
    for i in range(8):
        prompt, answer = (tiny()[1](text, add_special_tokens=False)["input_ids"] for text in (
            ["The capital of France is", "What is the opposite of hot? It is"][i // 4],
            " " + " ".join(words[i: 2 * i + 3])))
        answer = answer[:MAX_TOKENS]
        examples.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return examples, torch.tensor([[1.0, 0, 0, 2], [0, 0.5, 3, 1]])


def log_probs(model, examples):
    """Log-probabilities of the labeled tokens, one pass for each example, and their mask;
    `preferences.log_probs`, whose logits are fp32, is held to such a pass in test_preferences."""
    each = []
    for example in examples:
        ids, start = torch.tensor(example["input_ids"]), len(split(example)[0])
        logits = model(input_ids=ids[None]).logits[0, start - 1:-1].log_softmax(-1)
        each.append(logits.gather(-1, ids[start:, None])[:, 0])
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(each, batch_first=True), pad([torch.ones_like(p.detach()) for p in each],
                                            batch_first=True)


def scores(model, batch):
    made = log_probs(model, [e for side in zip(*batch, strict=True) for e in side])
    return [part.sum(1).view(2, -1) for part in made]


def gradients(loss, model):
    grads = torch.autograd.grad(loss, [*model.parameters()], allow_unused=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten()
                      for g, p in zip(grads, model.parameters(), strict=True)])


def groups(options):
    """Config, answers, advantages; log-probabilities at sampling and of the reference."""
    config, (examples, rewards) = GRPOConfig(**options), drawn()
    with torch.no_grad():
        old, mask = log_probs(moved(2, 0.04), examples)
        reference, _ = log_probs(tiny()[0], examples)
    if config.loss_type != "rloo":
        return config, examples, losses.advantages(rewards, config.scale_rewards), old, reference
    penalty = config.beta * (losses.k1(old, reference) * mask).sum(1).view_as(rewards)
    return config, examples, losses.leave_one_out(rewards - penalty), old, reference


def ours(kind, options):
    """(loss, gradients) of ftkit."""
    policy_model = copy.deepcopy(moved())
    if kind == "grpo":
        config, examples, gains, old, reference = groups(options)
        policy, mask = log_probs(policy_model, examples)
        loss = losses.grpo(policy, old, mask, gains.flatten(), config, reference, MAX_TOKENS)
        return loss, gradients(loss, policy_model)
    if kind == "gkd":
        student, teacher, labels = logits_of(policy_model)
        loss = losses.divergence(student[labels != -100], teacher[labels != -100], *options)
        return loss, gradients(loss, policy_model)
    if kind == "reward":
        scorer, batch = reward_model()
        loss = losses.reward_model(*scorer(**batch).logits.flatten().chunk(2), options)
        return loss, gradients(loss, scorer)
    batch = pairs(kind in losses.WITHOUT_REFERENCE)
    policy, lengths = scores(policy_model, batch)
    kl = reference = None
    with torch.no_grad():
        reference, _ = scores(tiny()[0], batch)
        if kind == "kto":
            others = preferences.mismatched(batch, None)
            kl = (scores(policy_model, others)[0] - scores(tiny()[0], others)[0]).mean().clamp(0)
    loss, _ = losses.of_pairs(DPOConfig(loss_type=kind, beta=options), policy, reference, lengths,
                              kl)
    return loss, gradients(loss, policy_model)


def logits_of(student):
    """(student, teacher) logits that predict each label, and the labels, padded."""
    batch = encoding.collate(drawn()[0], tiny()[1].pad_token_id)
    labels = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        teacher = tiny()[0](**batch).logits[:, :-1]
    return student(**batch).logits[:, :-1], teacher, labels


@functools.cache
def reward_model():
    """A scorer with the embedded model's sizes, and a batch of chosen, then rejected answers."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(tiny()[0].config)
    config.num_labels, config.pad_token_id = 1, tiny()[1].pad_token_id
    torch.manual_seed(0)
    scorer = AutoModelForSequenceClassification.from_config(config).double()
    batch = encoding.collate([e for side in zip(*pairs(), strict=True) for e in side],
                             tiny()[1].pad_token_id)
    batch.pop("labels")
    return scorer, batch


# ------------------------------------------------------------------------------------- TRL's


def columns(rows, *names):
    from datasets import Dataset

    return Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows])


THEIRS = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": [],
          "disable_tqdm": True, "output_dir": tempfile.gettempdir()}
ABC = ["prompt", "chosen", "rejected"]


def theirs(kind, options):
    """(loss, gradients) of TRL."""
    return {"grpo": of_groups, "gkd": of_logits, "reward": of_scores, "kto": of_kto,
            "orpo": of_concatenated, "simpo": of_concatenated}.get(kind, of_dpo)(kind, options)


def of_dpo(kind, beta):
    import trl
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    trainer = trl.DPOTrainer(
        copy.deepcopy(moved()), copy.deepcopy(tiny()[0]),
        trl.DPOConfig(beta=beta, loss_type=kind, **THEIRS),
        train_dataset=columns(["abc"], *ABC), processing_class=tiny()[1])
    rows = [{"prompt_ids": split(a)[0], "chosen_ids": split(a)[1], "rejected_ids": split(b)[1]}
            for a, b in pairs()]
    return computed(trainer, DataCollatorForPreference(pad_token_id=tiny()[1].pad_token_id)(rows))


def of_kto(kind, beta):
    import trl
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    trainer = trl.KTOTrainer(
        copy.deepcopy(moved()), copy.deepcopy(tiny()[0]),
        trl.KTOConfig(beta=beta, per_device_train_batch_size=2, **THEIRS),
        train_dataset=columns([["a", "b", True], ["c", "d", False]],
                              "prompt", "completion", "label"), processing_class=tiny()[1])
    rows = [{"prompt_ids": split(pair[side])[0], "completion_ids": split(pair[side])[1],
             "KL_completion_ids": split(before[side])[1], "label": side == 0}
            for side in (0, 1)
            for before, pair in zip([pairs()[-1], *pairs()], pairs(), strict=False)]
    return computed(trainer, DataCollatorForUnpairedPreference(
        pad_token_id=tiny()[1].pad_token_id)(rows))


def computed(trainer, batch):
    trainer.model.train()  # it has no dropout
    loss = trainer.compute_loss(trainer.model, batch)
    return loss, gradients(loss, trainer.model)


def of_concatenated(kind, beta):
    from trl.experimental import cpo, orpo

    trainer_class, args = (orpo.ORPOTrainer, orpo.ORPOConfig(beta=beta, **THEIRS)) if (
        kind == "orpo") else (cpo.CPOTrainer, cpo.CPOConfig(
            beta=beta, loss_type="simpo", simpo_gamma=0.5, cpo_alpha=0.0, **THEIRS))
    trainer = trainer_class(copy.deepcopy(moved()), args, processing_class=tiny()[1],
                            train_dataset=columns(["abc"], *ABC))
    batch = {}
    for side, name in enumerate(("chosen", "rejected")):
        made = encoding.collate([pair[side] for pair in pairs(True)], tiny()[1].pad_token_id)
        batch |= {f"{name}_{key}": made[key] for key in ("input_ids", "labels", "attention_mask")}
    loss, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    return loss, gradients(loss, trainer.model)


def of_scores(kind, margin):
    import trl

    scorer, batch = reward_model()
    trainer = trl.RewardTrainer(scorer, trl.RewardConfig(**THEIRS), processing_class=tiny()[1],
                                train_dataset=columns(["abc"], *ABC))
    loss = trainer.compute_loss(scorer, batch | ({"margin": torch.full((12,), margin)} if margin
                                                 else {}))
    return loss, gradients(loss, scorer)


def of_logits(kind, options):
    from trl.experimental.gkd import GKDTrainer

    model = copy.deepcopy(moved())
    student, teacher, labels = logits_of(model)
    loss = GKDTrainer.generalized_jsd_loss(student, teacher, labels, *options)
    return loss, gradients(loss, model)


@functools.cache
def policy_trainer(kind):
    import trl

    trainer, args = {"rloo": (trl.RLOOTrainer, trl.RLOOConfig)}.get(
        kind, (trl.GRPOTrainer, trl.GRPOConfig))
    return trainer(
        copy.deepcopy(moved()), lambda completions, **others: [0.0] * len(completions),
        args(beta=0.3, num_generations=4, per_device_train_batch_size=8, num_iterations=2,
             max_completion_length=MAX_TOKENS, **THEIRS),
        processing_class=copy.deepcopy(tiny()[1]), train_dataset=columns([["Hi"]] * 2, "prompt"))


def of_groups(kind, options):
    config, examples, gains, old, reference = groups(options)
    trainer = policy_trainer(config.loss_type if config.loss_type == "rloo" else "grpo")
    trainer.model.eval()  # no dropout anywhere; in train mode the loss is divided for accumulation
    trainer.beta, trainer.loss_type, trainer.epsilon_low = (
        config.beta, config.loss_type, config.epsilon)
    trainer.epsilon_high = config.epsilon_high or config.epsilon
    trainer.importance_sampling_level = config.importance_sampling_level

    def padded(side, left):
        rows = [split(e)[side] for e in examples]
        longest = max(map(len, rows))
        ids, mask = ([([0] * (longest - len(r)) + fill if left else fill + [0] * (longest - len(r)))
                      for r, fill in zip(rows, fills, strict=True)]
                     for fills in (rows, [[1] * len(r) for r in rows]))
        return torch.tensor(ids), torch.tensor(mask)

    (prompts, prompt_mask), (answers, mask) = padded(0, True), padded(1, False)
    batch = {"prompt_ids": prompts, "prompt_mask": prompt_mask, "completion_ids": answers,
             "completion_mask": mask, "advantages": gains.flatten(), "old_per_token_logps": old,
             "ref_per_token_logps": reference, "old_logps": (old * mask).sum(1),
             "num_items_in_batch": mask.sum()}
    loss = trainer._compute_loss(trainer.model, batch)
    return loss, gradients(loss, trainer.model)


# -------------------------------------------------------------------------------------- tests


def summary(loss, grads):
    """The loss, the norm of its gradient, and its product with a random direction."""
    torch.manual_seed(7)
    return [loss.item(), grads.norm().item(), (grads @ torch.randn(len(grads)).to(grads)).item()]


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_trl_on_the_same_batch(case):
    pytest.importorskip("trl")
    (loss, grads), (wanted, their_grads) = ours(*CASES[case]), theirs(*CASES[case])
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert (grads - their_grads).abs().max() <= 1e-5 * max(1, their_grads.norm())


def test_no_two_cases_have_the_same_gradient():
    """A variant that is not applied, such as a clip that never acts, would repeat another's."""
    seen = {tuple(round(x, 5) for x in summary(*ours(*case))) for case in CASES.values()}
    assert len(seen) == len(CASES)


def test_leave_one_out_equals_trls_formula():
    rewards = drawn()[1]
    others = (rewards.sum(1, keepdim=True) - rewards) / 3
    assert torch.allclose(losses.leave_one_out(rewards), rewards - others)


def test_gae_is_the_sum_of_discounted_errors_and_has_both_limits():
    torch.manual_seed(0)
    rewards, values, mask = torch.randn(2, 5), torch.randn(2, 5), torch.ones(2, 5)
    mask[1, 3:] = 0
    rewards = rewards * mask
    gain, returns = losses.gae(rewards, values, mask, gamma=0.9, lam=0.8)
    v = values * mask
    error = rewards + 0.9 * torch.cat([v[:, 1:], torch.zeros(2, 1)], 1) - v
    wanted = sum(0.72 ** k * error[0, 1 + k] for k in range(4))
    assert gain[0, 1].item() == pytest.approx(wanted.item(), abs=1e-6)
    assert torch.allclose(returns, gain + v) and (gain[1, 3:] == 0).all()
    assert gain[1, 2].item() == pytest.approx((rewards - v)[1, 2].item())  # no value after the end
    later = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(losses.gae(rewards, values, mask, lam=1.0)[0], (later - v) * mask,
                          atol=1e-6)


def test_ppo_clips_the_policy_as_grpo_does_and_the_value_on_the_worse_side():
    policy, old = torch.tensor([[0.5, -0.5]]), torch.zeros(1, 2)
    mask, gain = torch.ones(1, 2), torch.tensor([[1.0, 1.0]])
    values = torch.tensor([[1.0, 0.1]])
    loss, value_loss = losses.ppo(policy, old, mask, gain, values, old, torch.ones(1, 2))
    wanted = losses.grpo(policy, old, mask, torch.tensor([1.0]), GRPOConfig(loss_type="bnpo"))
    assert loss.item() == pytest.approx(wanted.item())
    # A value of 1 is right, but farther than 0.2 from the old one: the error of 0.2 counts.
    assert value_loss.item() == pytest.approx((0.8 ** 2 + 0.9 ** 2) / 4)


def test_the_three_estimates_of_the_kl():
    torch.manual_seed(0)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.3, 0.4, 0.3])
    draws = torch.multinomial(p, 200_000, replacement=True)
    each = [k(p.log()[draws], q.log()[draws]) for k in (losses.k1, losses.k2, losses.k3)]
    exact = (p * (p / q).log()).sum().item()
    assert [e.mean().item() for e in (each[0], each[2])] == pytest.approx([exact] * 2, rel=0.03)
    assert each[0].min() < 0 <= each[2].min() and each[0].std() > 2 * each[2].std()
