"""Answers equal those of transformers' `generate`, where a batch could change them."""

import pytest
import torch
import transformers

from ftkit.base import messages
from ftkit.engine import generation

SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2}
FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 8.0]}
MODELS = {
    "dynamic": transformers.LlamaConfig(**SMALL, max_position_embeddings=24, rope_parameters={
        "rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}),
    "longrope": transformers.Phi3Config(**SMALL, max_position_embeddings=96, rope_parameters={
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 24,
        **FACTORS}, original_max_position_embeddings=24, sliding_window=None),
    "yarn": transformers.LlamaConfig(**SMALL, max_position_embeddings=96, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
        "original_max_position_embeddings": 24}),
    "sliding window": transformers.MistralConfig(**SMALL, sliding_window=6),
    "some layers slide": transformers.Qwen2Config(
        **SMALL, sliding_window=5, use_sliding_window=True, max_window_layers=1),
}
PROMPTS = [[(7 * i + 3 * k) % 90 + 3 for i in range(n)] for k, n in enumerate((40, 4, 9, 20))]


def alone(model, prompt, n, eos=None):
    out = model.generate(torch.tensor([prompt]), max_new_tokens=n, do_sample=False,
                         eos_token_id=eos, pad_token_id=0)
    return out[0, len(prompt):].tolist()


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(MODELS[request.param])
    for p in made.parameters():
        p.data *= 6  # so that the choice of a token depends on those far away
    return made.eval()


def test_answers_in_a_batch_are_those_of_generate_alone_on_either_side_of_the_context(model):
    for prompts in (PROMPTS, PROMPTS[1:3]):
        wanted = [alone(model, prompt, 12) for prompt in prompts]
        assert generation.generate(model, prompts, 12) == wanted
    ends = {wanted[0][3]}
    assert generation.generate(model, prompts, 12, ends) == [
        alone(model, prompt, 12, list(ends)) for prompt in prompts]


def test_a_sampled_answer_does_not_depend_on_the_slots(model):
    """Up to the context; beyond it `generate` draws, one prompt at a time."""
    def drawn(slots):
        torch.manual_seed(3)
        return generation.generate(model, PROMPTS[1:3], 8, slots=slots, temperature=1.0)

    assert drawn(1) == drawn(2)


def test_falling_back_is_said_once(capsys):
    made = transformers.AutoModelForCausalLM.from_config(MODELS["dynamic"]).eval()
    messages.say_once.cache_clear()
    for _ in range(2):
        generation.generate(made, PROMPTS[:2], 2)
    assert capsys.readouterr().err.count("beyond 24 tokens this model rotates") == 1
    generation.generate(made, PROMPTS[1:2], 2)
    assert not capsys.readouterr().err
