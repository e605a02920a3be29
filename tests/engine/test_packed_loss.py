"""The fast path computes what transformers computes, for whatever model it accepts."""

from __future__ import annotations

import copy
import random
import threading

import pytest
import torch
import torch.nn.functional as F
import transformers

from ftkit.base import messages
from ftkit.engine import (
    attention_kernels,
    clipping,
    generation,
    packed_attention,
    packed_batch,
    packed_loss,
    prepacked_weights,
)
from ftkit.model.checkpointing import checkpoint

COMMON = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 131,
          "max_position_embeddings": 256}
LLAMA = COMMON | {"num_key_value_heads": 2, "intermediate_size": 96}
WINDOW = {"sliding_window": 7}
CONFIGS = {
    "llama, grouped heads, tied": transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "llama, untied": transformers.LlamaConfig(**LLAMA | {"num_key_value_heads": 4}),
    "mistral, window": transformers.MistralConfig(**LLAMA, **WINDOW),
    "qwen2, window in one layer": transformers.Qwen2Config(
        **LLAMA, **WINDOW, use_sliding_window=True, max_window_layers=1),
    "qwen3": transformers.Qwen3Config(**LLAMA, head_dim=24),
    "gemma3, window": transformers.Gemma3TextConfig(**LLAMA, **WINDOW, head_dim=16),
    "gpt-neox": transformers.GPTNeoXConfig(**COMMON, intermediate_size=96),
    "gpt2": transformers.GPT2Config(
        n_embd=64, n_layer=2, n_head=4, vocab_size=131, n_positions=256),
    "phi, bias in the head": transformers.PhiConfig(**COMMON, intermediate_size=96),
    "mixtral": transformers.MixtralConfig(**LLAMA, num_local_experts=4),
}
REFUSED = {  # words of the reason -> a model it is true of
    "final_logit_softcapping": transformers.Gemma2Config(**LLAMA, **WINDOW, head_dim=16),
    "logits_scaling": transformers.GraniteConfig(**LLAMA, logits_scaling=2.0),
    "s_aux": transformers.GptOssConfig(**LLAMA, **WINDOW, head_dim=16, num_local_experts=4),
    "Bloom": transformers.BloomConfig(hidden_size=64, n_layer=2, n_head=4, vocab_size=131),
    "Mamba": transformers.MambaConfig(hidden_size=64, num_hidden_layers=2, vocab_size=131),
    "do not pass keyword arguments": transformers.NemotronConfig(**LLAMA),
    "create their own attention masks": transformers.DogeConfig(**LLAMA),
    "layers of chunked_attention": transformers.Llama4TextConfig(
        **LLAMA, attention_chunk_size=16, intermediate_size_mlp=96, head_dim=16,
        num_local_experts=2, attn_temperature_tuning=False),
    "sliding window does not reach": transformers.LlamaConfig(
        **LLAMA, **WINDOW, layer_types=["sliding_attention", "full_attention"]),
}


def build(config, dtype=torch.float32):
    """A model with weights large enough that attention matters."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config)).to(dtype)
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.15)
    return model.eval()


def examples(lengths=(5, 40, 17, 17, 60, 3), seed=0):
    """Random tokens, labels in several stretches, as in a chat of several turns."""
    rng = random.Random(seed)
    out = []
    for n in lengths:
        ids = [rng.randrange(3, 131) for _ in range(n)]
        carries = [rng.random() < 0.6] * n
        for i in range(1, n):
            carries[i] = carries[i - 1] if rng.random() < 0.8 else not carries[i - 1]
        out.append({"input_ids": ids,
                    "labels": [t if c else -100 for t, c in zip(ids, carries, strict=True)]})
    return out


def alike(seed=0):
    """Examples of which several begin with the same tokens, one is the beginning of another, and
    two are equal; labels differ also where the tokens do not."""
    first, second, *rest = examples((12, 9, 30, 7, 25, 4, 7), seed)
    out = [first, first, second]
    for e in rest:
        begin = (first if len(out) % 2 else second)["input_ids"][: 3 + len(out)]
        out.append({"input_ids": begin + e["input_ids"],
                    "labels": begin[:-1] + [-100] + e["labels"]})
    out.append({"input_ids": first["input_ids"][:5], "labels": [-100] * 4 + [9]})
    return out


def transformers_sum(model, batch):
    """One example at a time through `model(labels=...)`, no padding anywhere."""
    total = 0.0
    for e in batch:
        count = sum(label != -100 for label in e["labels"][1:])
        if count:
            ids, labels = torch.tensor([e["input_ids"]]), torch.tensor([e["labels"]])
            total = total + model(input_ids=ids, labels=labels).loss * count
    return total


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(got: dict, want: dict, tolerance=1e-5):
    largest = max(g.abs().max() for g in want.values())
    assert got.keys() == want.keys()
    for name in want:
        assert (got[name] - want[name]).abs().max() <= tolerance * largest, name


def assert_as_transformers(model, batch, packed=None, tolerance=1e-5, relative=1e-5):
    """Loss and gradients of the packed batch equal those of transformers, one example at a time."""
    want = transformers_sum(model, batch)
    want_gradients = gradients(model, want)
    got = packed_loss.loss_sum(model, packed or packed_batch.pack(batch))
    assert got.item() == pytest.approx(want.item(), rel=relative)
    assert_same(gradients(model, got), want_gradients, tolerance)
    return want.item()


# Loss


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_equal_those_of_transformers(name):
    model, batch = build(CONFIGS[name]), examples()
    assert packed_attention.why_padded(model) is None
    assert_as_transformers(model, batch)


def skip_where_padding_matters(name, model):
    """transformers 5.14 gives a Doge other logits where its input is padded, so that there is no
    one loss to compare with."""
    if name != "create their own attention masks":
        return
    ids, pad = torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.zeros(1, 3, dtype=torch.long)
    mask = torch.cat([torch.ones_like(ids), pad], 1)
    with torch.no_grad():
        alone = model(input_ids=ids).logits
        padded = model(input_ids=torch.cat([ids, pad], 1), attention_mask=mask).logits[:, :6]
    if not torch.allclose(alone, padded, atol=1e-4):
        pytest.skip("transformers itself gives this model other logits where its input is padded")


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_flattened_is_named_and_gets_the_same_loss_padded(name, capsys):
    messages.say_once.cache_clear()  # another test of this process may have met the reason
    model, batch = build(REFUSED[name]), examples()
    reason = packed_attention.why_padded(model)
    assert name in reason
    skip_where_padding_matters(name, model)
    for _ in range(2):
        assert_as_transformers(model, batch)
    assert capsys.readouterr().err.count(reason) == 1


@pytest.mark.parametrize("name", ["llama, grouped heads, tied", "mistral, window", "gpt-neox"])
def test_what_examples_begin_with_is_computed_once_and_changes_nothing(name):
    model, batch = build(CONFIGS[name]), alike()
    flat_batch = packed_batch.pack(batch)
    assert len(flat_batch.input_ids) < 0.8 * flat_batch.tokens
    assert flat_batch.tokens == sum(len(e["input_ids"]) for e in batch)
    want = assert_as_transformers(model, batch, flat_batch)
    assert_as_transformers(model, batch, packed_batch.pack(batch, share=False))
    total, count = packed_loss.nll(model, batch)
    assert (total, count) == (pytest.approx(want, rel=1e-5), flat_batch.supervised_tokens)


@pytest.mark.parametrize("where", ["attention", "lora"])
def test_with_dropout_every_example_is_computed_on_its_own(where, monkeypatch):
    import peft

    rows = []
    monkeypatch.setattr(packed_loss, "hidden_states", lambda base, ids, *rest: rows.append(len(ids))
                        or packed_attention.hidden_states(base, ids, *rest))
    config = transformers.LlamaConfig(**LLAMA, attention_dropout=0.1 * (where == "attention"))
    model, batch = build(config).train(), packed_batch.pack(alike())
    if where == "lora":
        model = peft.get_peft_model(model, peft.LoraConfig(
            r=4, task_type="CAUSAL_LM", target_modules=["q_proj"], lora_dropout=0.1)).train()
    packed_loss.loss_sum(model, batch)
    model.eval()
    packed_loss.loss_sum(model, batch)
    assert rows[0] >= batch.tokens > rows[1]


def test_an_example_longer_than_the_matrix_product_path_goes_through_sdpa():
    config = transformers.MistralConfig(
        **LLAMA | {"max_position_embeddings": 1024}, sliding_window=100)
    model, batch = build(config), examples((700, 650, 30))
    assert 700 > attention_kernels.BMM_MAX_LENGTH > 30
    assert_as_transformers(model, batch)


@pytest.mark.parametrize("rows", [64, 300])
def test_the_loss_in_chunks_equals_the_loss_in_one_piece(rows):
    torch.manual_seed(0)
    hidden, targets = torch.randn(300, 16, requires_grad=True), torch.randint(0, 50, (300,))
    weight = torch.randn(50, 16, requires_grad=True)
    want = F.cross_entropy(hidden @ weight.T, targets, reduction="sum") / 300
    want_gradients = torch.autograd.grad(want, [hidden, weight])
    got = packed_loss._LinearCrossEntropy.apply(hidden, weight, targets, rows) / 300
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    for g, w in zip(torch.autograd.grad(got, [hidden, weight]), want_gradients, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("name", ["llama, grouped heads, tied", "mistral, window"])
@pytest.mark.parametrize("share", [False, True])
def test_the_kernel_of_a_gpu_is_given_what_its_documentation_asks_for(name, share, monkeypatch):
    """A stand-in written after the docstring of torch.nn.attention.varlen.varlen_attn."""
    calls = []

    def kernel(q, k, v, ends, ends_k, longest, longest_k, *, scale, window_size, enable_gqa):
        calls.append(window_size)
        assert ends.dtype == torch.int32 and ends is ends_k and longest == longest_k
        assert enable_gqa == (q.shape[1] != k.shape[1])
        out = []
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            assert 0 < end - start <= longest
            i = torch.arange(end - start)
            seen = i[:, None] >= i
            if window_size[0] >= 0:
                seen &= i[:, None] - i <= window_size[0]
            parts = [x[start:end].transpose(0, 1)[None] for x in (q, k, v)]
            out.append(F.scaled_dot_product_attention(
                *parts, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)[0].transpose(0, 1))
        return torch.cat(out)

    monkeypatch.setattr(attention_kernels, "_varlen", lambda q: kernel)
    model, batch = build(CONFIGS[name]), alike()
    assert_as_transformers(model, batch, packed_batch.pack(batch, share=share))
    assert set(calls) == {(6, 0) if "window" in name else (-1, 0)}
    assert generation.generate(model, ALIKE, 5, slots=4) == hf_generate(model, ALIKE, 5, [])
    assert not generation._trials[model]


def test_a_batch_without_any_label_costs_nothing_and_changes_nothing():
    model = build(CONFIGS["llama, untied"])
    flat = packed_batch.pack([{"input_ids": [5, 6, 7], "labels": [5, -100, -100]}])
    assert flat.supervised_tokens == 0  # nothing predicts a first token
    loss = packed_loss.loss_sum(model, flat)
    assert loss.item() == 0
    assert all(not g.any() for g in gradients(model, loss).values())


# What is wrapped around a model


def test_gradient_checkpointing_gives_the_same_gradients():
    model, flat = build(CONFIGS["mistral, window"]).train(), packed_batch.pack(examples())
    want = gradients(model, packed_loss.loss_sum(model, flat))
    checkpoint(model)
    calls = []
    model.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    assert_same(gradients(model, packed_loss.loss_sum(model, flat)), want, 1e-6)
    assert len(calls) == 2  # once forward, once again for the backward pass


def test_lora_on_the_head_gets_the_loss_and_gradients_of_its_own_forward():
    """Other methods and layers are in tests/model/test_peft_methods.py."""
    import peft

    model = peft.get_peft_model(build(CONFIGS["llama, untied"]), peft.LoraConfig(
        r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    assert packed_attention.why_padded(model) is None
    assert_as_transformers(model, examples(), tolerance=3e-5)


def test_four_bit_weights_train_adapters_as_in_their_own_forward(tmp_path):
    import peft

    from ftkit.model import loading

    build(CONFIGS["llama, untied"]).save_pretrained(tmp_path)
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                             bnb_4bit_compute_dtype=torch.float32)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path, quantization_config=config)
    loading.keep_training_layout(model)
    model, batch = peft.get_peft_model(model, peft.LoraConfig(
        r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"],
        init_lora_weights=False)), examples()
    assert packed_attention.why_padded(model) is None
    generation.generate(model, [[5, 6, 7]], 3)  # must not spoil the gradients that follow
    assert_as_transformers(model, batch, tolerance=1e-4, relative=1e-4)


def test_two_models_in_two_threads_do_not_disturb_each_other():
    models = [build(CONFIGS[name]) for name in ("llama, untied", "mistral, window")]
    batches = [packed_batch.pack(examples(seed=seed)) for seed in (1, 2)]
    want = [packed_loss.loss_sum(m, b).item() for m, b in zip(models, batches, strict=True)]
    got = [[], []]

    def work(i):
        for _ in range(10):
            got[i].append(packed_loss.loss_sum(models[i], batches[i]).item())

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[want[0]] * 10, [want[1]] * 10]


def test_a_switched_model_still_answers_ordinary_calls_and_is_switched_back():
    model = build(CONFIGS["mistral, window"])
    ids = torch.tensor([[0, 0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    mask = torch.tensor([[0, 0] + [1] * 10])
    call = {"input_ids": ids, "attention_mask": mask}
    want, text = model(**call).logits, model.generate(**call, max_new_tokens=5, do_sample=False)
    with packed_attention.fast_path(model):
        assert model.config._attn_implementation == packed_attention.NAME
        packed_loss.loss_sum(model, packed_batch.pack(examples()))
        torch.testing.assert_close(model(**call).logits, want)
        assert model.generate(**call, max_new_tokens=5, do_sample=False).equal(text)
    assert model.config._attn_implementation == "sdpa"


def test_the_switch_is_not_saved_with_the_model(tmp_path):
    model = build(CONFIGS["llama, untied"])
    with packed_attention.fast_path(model):
        model.save_pretrained(tmp_path)
    assert packed_attention.NAME not in (tmp_path / "config.json").read_text()
    assert transformers.LlamaForCausalLM.from_pretrained(
        tmp_path).config._attn_implementation == "sdpa"


def test_training_mode_and_attention_survive_a_trial_an_evaluation_and_a_generation():
    config = transformers.LlamaConfig(**LLAMA, attention_dropout=0.5)
    model = build(config).train()
    model.model.layers[1].eval()
    modes = [m.training for m in model.modules()]
    first = packed_loss.nll(model, examples())
    made = generation.generate(model, PROMPTS, 6)
    assert packed_loss.nll(model, examples()) == first  # dropout was off
    assert generation.generate(model, PROMPTS, 6) == made
    assert [m.training for m in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"


def test_attention_dropout_is_at_work_in_training():
    config = transformers.LlamaConfig(**LLAMA, attention_dropout=0.5)
    model, flat = build(config).train(), packed_batch.pack(examples())
    assert packed_loss.loss_sum(model, flat).item() != packed_loss.loss_sum(model, flat).item()


# Evaluation


def test_nll_is_a_sum_over_tokens_whatever_the_batches():
    model, batch = build(CONFIGS["llama, untied"]), examples()
    want = transformers_sum(model, batch).item()
    count = sum(label != -100 for e in batch for label in e["labels"][1:])
    for batch_tokens in (1, 50, 10_000):
        total, counted = packed_loss.nll(model, batch, batch_tokens)
        assert total == pytest.approx(want, rel=1e-5)
        assert counted == count
    with torch.autocast("cpu", torch.bfloat16):
        low, _ = packed_loss.nll(model, batch)
    assert low != want
    assert low / count == pytest.approx(want / count, abs=2e-2)
    assert packed_loss.nll(model, []) == (0, 0)


# Generation


def hf_generate(model, prompts, limit, eos):
    out = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
            max_new_tokens=limit, eos_token_id=eos or None, pad_token_id=0)
        out.append(made[0, len(prompt):].tolist())
    return out


PROMPTS = [e["input_ids"] for e in examples((4, 30, 17, 11, 20, 3, 9, 9, 1), seed=3)]
ALIKE = [e["input_ids"] for e in alike(4)]


@pytest.mark.parametrize("name", CONFIGS)
def test_generation_gives_the_tokens_of_transformers(name):
    model = build(CONFIGS[name])
    want = hf_generate(model, PROMPTS, 14, [])
    assert generation.generate(model, PROMPTS, 14) == want
    assert generation.generate(model, PROMPTS, 14, slots=2) == want  # slots are refilled
    assert generation.generate(model, ALIKE, 5) == hf_generate(model, ALIKE, 5, [])


@pytest.mark.parametrize("name", ["llama, grouped heads, tied", "mistral, window"])
@pytest.mark.parametrize("at_once", [5, 40, 4000])
def test_prompts_that_share_beginnings_take_slots_that_others_leave(name, at_once, monkeypatch):
    model = build(CONFIGS[name])
    monkeypatch.setitem(generation.PREFILL_TOKENS, "cpu", at_once)
    long = examples((60,), seed=5)[0]["input_ids"]
    prompts = [*ALIKE, *PROMPTS, long, long[:1], long[:21], long[:40] + ALIKE[0], long]
    free = hf_generate(model, prompts, 12, [])
    eos = [free[0][4], free[5][1], free[-1][2]]  # sequences end at different steps
    want = hf_generate(model, prompts, 12, eos)
    assert len(set(map(len, want))) > 3
    for slots in (1, 3, 4, 7, None):
        assert generation.generate(model, prompts, 12, eos, slots=slots) == want
    assert not generation._trials[model]  # nor are they transformers' own


def test_memory_of_slots_that_no_sequence_has_reached_is_not_read(monkeypatch):
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty",
                        lambda *args, **kwargs: new_empty(*args, **kwargs).fill_(float("nan")))
    model = build(CONFIGS["mistral, window"])
    assert generation.generate(model, PROMPTS, 30, slots=3) == hf_generate(model, PROMPTS, 30, [])


@pytest.mark.parametrize("name", CONFIGS)
def test_prepacked_weights_give_the_tokens_of_transformers(name, monkeypatch):
    monkeypatch.setattr(prepacked_weights, "LEAST_BYTES", 0)
    multiply, shapes = prepacked_weights._multiply, set()
    monkeypatch.setattr(prepacked_weights, "_multiply", lambda x, packed, bias: (
        shapes.add(tuple(x.shape)), multiply(x, packed, bias))[1])
    model = build(CONFIGS[name])
    prompts = [*PROMPTS, *ALIKE]
    assert generation.generate(model, prompts, 6) == hf_generate(model, prompts, 6, [])
    assert {shape[-2] for shape in shapes} >= {len(prompts)}  # each decoding step, if it is fast
    assert not any("forward" in vars(module) for module in model.modules())


def test_weights_are_prepacked_only_where_that_is_exact_and_pays(monkeypatch):
    model = build(CONFIGS["llama, untied"])

    def count(model):
        with prepacked_weights.prepacked(model):
            return sum("forward" in vars(module) for module in model.modules())

    layers = sum(type(module) is torch.nn.Linear for module in model.modules())
    assert count(model) == 0  # small: the processor's cache holds it
    monkeypatch.setattr(prepacked_weights, "LEAST_BYTES", 0)
    assert count(model) == layers
    with torch.autocast("cpu", torch.bfloat16):
        assert count(model) == 0
    monkeypatch.setattr(prepacked_weights, "MOST_BYTES", 1000)
    assert count(model) == 0  # large: there would be two of each
    monkeypatch.undo()
    monkeypatch.setattr(prepacked_weights, "LEAST_BYTES", 0)
    model.lm_head.weight.data = model.lm_head.weight.data.bfloat16()
    assert count(model) == layers - 1
    with pytest.raises(KeyError), prepacked_weights.prepacked(model):
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())


def test_no_weight_is_prepacked_where_the_operators_are_missing_or_wrong(monkeypatch):
    monkeypatch.setattr(prepacked_weights, "LEAST_BYTES", 0)
    model = build(CONFIGS["llama, untied"])
    multiply = prepacked_weights._multiply

    def missing(*_):
        raise AttributeError

    for broken, layers in ((missing, 0), (lambda *args: multiply(*args) + 0.1, 0), (multiply, 1)):
        monkeypatch.setattr(prepacked_weights, "_multiply", broken)
        prepacked_weights._works.cache_clear()
        assert bool(prepacked_weights._layers(model)) == layers


def test_generation_ends_at_the_first_of_several_end_tokens_and_includes_it():
    model = build(CONFIGS["llama, untied"])
    free = generation.generate(model, PROMPTS, 14)
    eos = [free[0][0], free[1][3], free[2][5]]
    want = hf_generate(model, PROMPTS, 14, eos)
    assert want[0] == free[0][:1]
    assert len({len(row) for row in want}) > 2
    assert generation.generate(model, PROMPTS, 14, eos) == want
    assert generation.generate(model, PROMPTS, 14, eos[1]) == hf_generate(
        model, PROMPTS, 14, eos[1:2]
    )


def test_each_prompt_can_have_a_limit_of_its_own():
    model = build(CONFIGS["llama, untied"])
    free = generation.generate(model, PROMPTS, 9)
    limits = [0, 9, 1, 3, 2, 9, 5, 4, 7]
    want = [row[:n] for row, n in zip(free, limits, strict=True)]
    assert generation.generate(model, PROMPTS, limits, slots=3) == want


# The last is a Llama whose cache slides and whose attention does not: its text depends on padding.
@pytest.mark.parametrize("name", list(REFUSED)[:-1])
def test_generation_of_a_refused_model_is_that_of_transformers(name):
    model = build(REFUSED[name])
    skip_where_padding_matters(name, model)
    want = hf_generate(model, PROMPTS, 6, [7])
    assert generation.generate(model, PROMPTS, [6] * len(PROMPTS), [7]) == want


@pytest.mark.parametrize("config", [CONFIGS["llama, untied"], REFUSED["Bloom"]])
def test_generation_asks_nothing_that_the_caller_did_not(config):
    model = build(config)
    want = hf_generate(model, PROMPTS, 9, [])
    own = model.generation_config
    own.repetition_penalty, own.eos_token_id = 5.0, want[1][2]
    assert hf_generate(model, PROMPTS, 9, []) != want
    assert generation.generate(model, PROMPTS, 9) == want
    assert model.generation_config is own and own.repetition_penalty == 5.0


def test_generation_says_what_is_wrong_with_its_input():
    model = build(CONFIGS["llama, untied"])
    assert generation.generate(model, [], 5) == []
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generation.generate(model, [[5], []], 5)
    with pytest.raises(ValueError, match="max_new_tokens has 2 values for 1 prompts"):
        generation.generate(model, [[5]], [5, 5])


def test_the_slots_of_a_large_model_fit_in_memory():
    config = transformers.LlamaConfig(hidden_size=4096, num_hidden_layers=32,
                                      num_attention_heads=32, num_key_value_heads=8)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    per_token = 2 * 32 * 8 * 128 * 4
    assert generation._fitting(model, 100) == generation.CACHE_BYTES // (100 * per_token)
    assert generation._fitting(model, 4000) == 8  # and never fewer, or weights are read for nothing


# Around a step


def test_the_norm_of_a_large_gradient_is_right():
    """torch's own fp32 sum over such a tensor is off by more than a hundredth."""
    p = torch.nn.Parameter(torch.empty(2**26))
    p.grad = torch.empty_like(p).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    want = sum(chunk.double().square().sum() for chunk in p.grad.split(2**20)).sqrt().item()
    assert clipping.grad_norm([p]).item() == pytest.approx(want, rel=1e-5)
    assert clipping.clip_([p], 2.0).item() == pytest.approx(want, rel=1e-5)
    assert clipping.grad_norm([p]).item() == pytest.approx(2.0, rel=1e-5)


def test_clipping_equals_that_of_torch():
    torch.manual_seed(0)
    shapes = [(5000, 3), (7,), (4096,), (1,)]
    ours, theirs = ([torch.nn.Parameter(torch.zeros(s)) for s in shapes] for _ in range(2))
    for a, b in zip(ours, theirs, strict=True):
        a.grad = torch.randn(a.shape)
        b.grad = a.grad.clone()
    ours.append(torch.nn.Parameter(torch.zeros(3)))  # no gradient
    for limit in (1.0, 1e6):
        want = torch.nn.utils.clip_grad_norm_(theirs, limit)
        torch.testing.assert_close(clipping.clip_(ours, limit), want)
        for a, b in zip(ours, theirs, strict=False):
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_a_fused_optimizer_that_clips_takes_the_steps_of_one_after_clipping(optimizer):
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(5000, 3))] for _ in range(2))
    one, other = (optimizer(params, lr=0.1, fused=True) for params in (ours, theirs))
    for size in (1.0, 1e-6, 30.0):  # above the limit, below, above
        ours[0].grad = torch.randn(5000, 3) * size
        theirs[0].grad = ours[0].grad.clone()
        want = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        torch.testing.assert_close(clipping.clip_(ours, 1.0, one), want)
        one.step()
        other.step()
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)


def test_no_limit_leaves_gradients_alone_and_nan_shows_in_the_norm():
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([3.0, 4.0, 0.0])
    assert clipping.clip_([p], 0) == clipping.clip_([p], None) == 5
    assert p.grad.tolist() == [3, 4, 0]
    p.grad[0] = float("nan")
    assert clipping.clip_([p], 1.0).isnan()
