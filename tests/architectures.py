"""Small models of many architectures, as config.json would give them, and how they are trained.

    SHAPES["mixtral"]        {"model_type": "mixtral", ...}
    CASES                    [(name of a shape, fields of Config, tokens of each sequence), ...]
"""

from __future__ import annotations

SIZES = {"vocab_size": 4000, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 3,
         "num_attention_heads": 6, "num_key_value_heads": 3, "max_position_embeddings": 1024,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OWN_NAMES = {"vocab_size": 4000, "n_embd": 192, "n_layer": 3, "n_head": 6}
STATE_SPACE = {"vocab_size": 4000, "hidden_size": 192, "state_size": 16, "num_hidden_layers": 3}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
LOCAL_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}

SHAPES: dict[str, dict] = {
    "llama": SIZES, "mistral": SIZES | {"sliding_window": 64}, "qwen2": SIZES,
    "qwen3": SIZES | {"head_dim": 32}, "smollm3": SIZES, "olmo2": SIZES, "phi3": SIZES,
    "granite": SIZES, "stablelm": SIZES, "cohere": SIZES, "starcoder2": SIZES, "nemotron": SIZES,
    "gemma2": SIZES | {"head_dim": 32, "sliding_window": 64, "query_pre_attn_scalar": 32},
    "gemma3_text": SIZES | {"head_dim": 32, "sliding_window": 64, "query_pre_attn_scalar": 32},
    "phi": SIZES, "gpt_neox": SIZES,
    "opt": SIZES | {"ffn_dim": 512, "word_embed_proj_dim": 192},
    "falcon": SIZES | {"multi_query": True, "new_decoder_architecture": False},
    "gpt2": OWN_NAMES | {"n_positions": 1024},
    "bloom": {"vocab_size": 4000, "hidden_size": 192, "n_layer": 3, "n_head": 6},
    "mixtral": SIZES | LOCAL_EXPERTS | {"intermediate_size": 256},
    "qwen2_moe": SIZES | EXPERTS | {"moe_intermediate_size": 128, "decoder_sparse_step": 1,
                                    "shared_expert_intermediate_size": 256},
    "qwen3_moe": SIZES | EXPERTS | {"moe_intermediate_size": 128, "head_dim": 32},
    "olmoe": SIZES | EXPERTS | {"intermediate_size": 128},
    "gpt_oss": SIZES | LOCAL_EXPERTS | {"intermediate_size": 256, "head_dim": 32,
                                        "sliding_window": 64},
    "deepseek_v3": SIZES | {
        "num_key_value_heads": 6, "moe_intermediate_size": 128, "n_routed_experts": 8,
        "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 1, "kv_lora_rank": 64, "q_lora_rank": 96, "qk_rope_head_dim": 16,
        "v_head_dim": 32, "qk_nope_head_dim": 32},
    "mamba": STATE_SPACE, "falcon_mamba": STATE_SPACE,
    "mamba2": STATE_SPACE | {"num_heads": 12, "head_dim": 32, "n_groups": 2, "chunk_size": 32},
    "recurrent_gemma": SIZES | {"lru_width": 192, "attention_window_size": 64, "head_dim": 32},
}
for _name, _shape in SHAPES.items():
    SHAPES[_name] = {"model_type": _name} | _shape

EVEN, RAGGED = [96] * 2, [120, 50, 20]
_WAYS: list[tuple[dict, list[int]]] = [
    ({"precision": "fp32"}, EVEN), ({"precision": "bf16", "method": "lora"}, EVEN),
    ({"precision": "bf16", "gradient_checkpointing": True}, RAGGED),
    ({"precision": "fp32", "method": "qlora"}, EVEN),
    ({"precision": "pure-bf16"}, [160]),
    ({"precision": "bf16", "method": "lora", "base_dtype": "bf16"}, RAGGED),
]
SLOW = ("mamba", "falcon_mamba", "recurrent_gemma")  # on a CPU one token after another


def _case(name: str, way: int) -> tuple[str, dict, list[int]]:
    fields, lengths = _WAYS[way]
    return name, fields, [n // 5 for n in lengths] if name in SLOW else lengths


# Each architecture in full, and in one of the other ways and for some in two, which take turns.
CASES = [_case(name, 0) for name in SHAPES] + [
    _case(name, 1 + place % 5) for place, name in enumerate(SHAPES)] + [
    _case(name, 1 + (place + 2) % 5) for place, name in enumerate(SHAPES) if place % 3 == 0]
# peft finds no linear layer to adapt in a Falcon Mamba of 4-bit weights, and a run says so.
CASES = [case for case in CASES if (case[0], case[1].get("method")) != ("falcon_mamba", "qlora")]
