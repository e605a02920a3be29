"""Tasks of coding interviews: right by torch, transformers and others; every mistake is named."""


import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from transformers.generation import logits_process
from transformers.models.llama import modeling_llama

import ftkit as ft
from ftkit.experiment import preference_losses as losses
from ftkit.interview import coding
from ftkit.lessons.exercises import interview

TASKS = interview.tasks()


def cached(q, k, v, past_k, past_v):
    k, v = torch.cat([past_k, k], 1), torch.cat([past_v, v], 1)
    see = torch.tensor([[j <= past_k.shape[1] + i for j in range(k.shape[1])]
                        for i in range(q.shape[1])])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=see), k, v


def llama_rotary(x, positions, theta=10000.0):
    config = transformers.LlamaConfig(
        hidden_size=x.shape[-1], num_attention_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": theta})
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(x[None], positions[None])
    return modeling_llama.apply_rotary_pos_emb(x[None, None], x[None, None], cos, sin)[0][0, 0]


def flat_beams(step, start, length, width):
    ids, scores = [tuple(start)], torch.zeros(1, dtype=torch.double)
    for _ in range(length):
        every = scores[:, None] + torch.tensor([step(i) for i in ids], dtype=torch.double)
        scores, at = every.flatten().topk(min(width, every.numel()))
        ids = [(*ids[i // every.shape[1]], i % every.shape[1]) for i in at.tolist()]
    return ids[0], float(scores[0])


def hf_bpe(word, merges):
    letters = {c for pair in merges for symbol in pair for c in symbol} | set(word)
    vocabulary = {s: i for i, s in enumerate([*sorted(letters), *map("".join, merges)])}
    return [t.value for t in tokenizers.models.BPE(vocabulary, merges).tokenize(word)]


def torch_adamw(w, grad, m, v, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, decay=0.01):
    p = torch.nn.Parameter(w.clone())
    p.grad = grad
    optimizer = torch.optim.AdamW([p], lr, betas, eps, decay)
    state = optimizer.state[p]
    state.update(step=torch.tensor(step - 1.0), exp_avg=m.clone(), exp_avg_sq=v.clone())
    optimizer.step()
    return p.detach(), state["exp_avg"], state["exp_avg_sq"]


def sum_of_deltas(rewards, values, gamma, lam):
    deltas = [r + gamma * n - v for r, v, n in zip(rewards, values, [*values[1:], 0], strict=True)]
    gains = [sum((gamma * lam) ** i * d for i, d in enumerate(deltas[t:]))
             for t in range(len(deltas))]
    return gains, [g + v for g, v in zip(gains, values, strict=True)]


def clipped_by_sign(logp, old, a, mask, low=0.2, high=None):
    a = a[:, None] if a.dim() == 1 else a
    ratio, high = (logp - old).exp(), low if high is None else high
    gain = torch.where(a > 0, ratio.clamp(max=1 + high), ratio.clamp(min=1 - low)) * a
    return -gain[mask.bool()].mean()


def dapo(*args):
    return clipped_by_sign(*args, *((0.2, 0.28) if len(args) == 4 else ()))


def by_speculation(p, q, token, u):
    """Whatever the residual is, accepting and resampling must give p."""
    accepted, rest = TASKS["speculative_accept"].solution()(p, q, token, u)
    kept = [b * min(1, a / b) for a, b in zip(p, q, strict=True)]
    mixed = [k + (1 - sum(kept)) * r for k, r in zip(kept, rest, strict=True)]
    assert mixed == pytest.approx(p)
    return accepted, rest


def mixtral(logits, k=2):
    weights, experts = logits.softmax(-1).topk(k)
    return experts, weights / weights.sum(-1, keepdim=True)


def fake_quantized(x):
    scales = x.abs().amax(1) / 127
    scales[scales == 0] = 1
    given = torch.fake_quantize_per_channel_affine(
        x, scales, torch.zeros(len(x), dtype=torch.int32), 0, -127, 127)
    return (given / scales[:, None]).round().to(torch.int8), scales[:, None], given


def kto(ratios, desirable, kl, beta=0.1):
    each = [losses.kto(ratio.expand(2, 1), torch.zeros(2, 1), kl, beta)[0] for ratio in ratios]
    wins = 1 - torch.sigmoid(beta * (ratios - kl))  # losses.kto is the mean of both signs
    return torch.stack([w if d else 2 * e - w for e, w, d in zip(each, wins, desirable,
                                                                strict=True)]).mean()


def pairs(*tensors):
    return torch.stack(tensors)


REFERENCE = {
    "stable_softmax": lambda x, dim=-1: x.softmax(dim), "cross_entropy": F.cross_entropy,
    "causal_attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "grouped_query_attention": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=True),
    "attend_with_cache": cached, "rotary": llama_rotary,
    "rms_norm": lambda x, w, eps=1e-6: F.rms_norm(x, w.shape, w, eps),
    "swiglu": lambda x, gate, up, down: F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down),
    "top_k_filter": lambda x, k: logits_process.TopKLogitsWarper(k)(None, x),
    "top_p_filter": lambda x, p: logits_process.TopPLogitsWarper(p)(None, x),
    "repetition_penalty": lambda x, seen, penalty: logits_process.RepetitionPenaltyLogitsProcessor(
        penalty)(torch.tensor([seen]), x[None])[0],
    "beam_search": flat_beams, "bpe_encode": hf_bpe, "adamw_update": torch_adamw,
    "merge_adapters": lambda W, adapters: sum(
        (w * alpha / len(A) * torch.eye(W.shape[1]) @ A.T @ B.T for A, B, alpha, w in adapters),
        W.T).T,
    "sequence_logprobs": lambda x, y: -F.cross_entropy(
        x[:, :-1].transpose(1, 2), y[:, 1:], reduction="none").sum(1),
    "gae": sum_of_deltas, "ppo_loss": clipped_by_sign, "dapo_loss": dapo,
    "value_loss": lambda v, old, r, eps=0.2: 0.5 * torch.stack(
        [(v - r) ** 2, (v.clamp(old - eps, old + eps) - r) ** 2]).amax(0).mean(),
    "reward_model_loss": lambda c, r, margin=0.0: F.softplus(r - c + margin).mean(),
    "kl_estimates": lambda p, q: ((p - q).mean(), F.mse_loss(p, q) / 2,
                                  (torch.expm1(q - p) + p - q).mean()),
    "ipo_loss": lambda c, r, rc, rr, beta=0.1: losses.ipo(
        pairs(c, r), pairs(rc, rr), torch.ones(2, len(c)), beta)[0],
    "kto_loss": kto,
    "simpo_loss": lambda c, r, lc, lr, beta=2.0, gamma=1.0: losses.simpo(
        pairs(c, r), pairs(lc, lr), beta, gamma)[0],
    "rloo_advantages": lambda r: torch.stack([
        r[:, i] - torch.cat([r[:, :i], r[:, i + 1:]], 1).mean(1) for i in range(r.shape[1])], 1),
    "gspo_ratio": lambda a, b, mask: ((a - b).exp() ** mask).prod(1) ** (1 / mask.sum(1)),
    "masked_entropy": lambda x, mask: torch.distributions.Categorical(
        logits=x).entropy()[mask.bool()].mean(),
    "speculative_accept": by_speculation, "route_tokens": mixtral,
    "distillation_loss": lambda s, t, T=2.0: T * T * F.kl_div(
        (s / T).log_softmax(-1), (t / T).log_softmax(-1), log_target=True, reduction="batchmean"),
    "absmax_quantize": fake_quantized,
}
BY_HAND = {
    "bpe_merges": [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")],  # Sennrich et al. 2016
    "pack_records": [[0, 4], [2, 3], [1]],
}


@pytest.mark.parametrize("name", TASKS)
def test_the_solution_of_a_task_agrees_with_an_independent_one(name):
    task = TASKS[name]
    cases = interview._defined(task.cases)["cases"]
    if name in BY_HAND:
        assert task.solution()(*cases[0]) == BY_HAND[name]
        return
    assert ft.check(name, REFERENCE[name]).state == "solved"
    for case in cases:
        assert interview._same(REFERENCE[name](*case), task.solution()(*case))


@pytest.mark.parametrize("name", TASKS)
def test_four_mistakes_of_a_task_are_told_apart_and_named_after_the_failing_case(name):
    task = TASKS[name]
    assert len(task.mistakes) >= 4 and task.level in ("junior", "mid", "senior")
    for old, new, told in task.mistakes:
        message = task.judge(task.solution(old, new))
        assert message.startswith(f"{name}(") and "expected " in message, old
        assert message.endswith(f": {told}"), (told, message)


def test_there_are_thirty_tasks_and_the_coding_round_asks_them_by_level():
    assert len(TASKS) >= 30
    assert set(TASKS) <= set(coding.tasks()) and coding.of_level("senior")
    assert all(TASKS[name].level == "senior" for name in coding.of_level("senior"))
    assert ft.check("gae", lambda *case: ...).state == "unsolved"
    wrong = ft.check("masked_entropy", lambda logits, mask: torch.zeros(()))
    assert wrong.state == "wrong" and "gave [0.0]" in wrong.text  # a mistake that is on no list
