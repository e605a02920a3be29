"""The weights that pretraining starts from: random, but for one copying circuit.

Looking back for the last time that the current token occurred, and saying what came after it
("induction", Elhage et al. 2021, Olsson et al. 2022), takes two attention heads that are of use
only together. A model of this size needs many millions of tokens to stumble on them, so they are
laid out by hand; training does the rest.

- Layer 0, head 0 attends to the previous token: queries and keys read a coordinate that all
  embeddings share, turned by the rotary embedding so that the product is largest at distance one.
  It writes a projection P of the previous embedding into a subspace of its own.
- Layer 1, head 0 compares P of the current embedding with what layer 0 wrote, so it attends to
  the places that come after an equal token, and writes the embedding found there to the output.
"""

import math

import torch

MATCHED = 40  # dimensions of P: the slow half of the rotary pairs, nearly blind to distance
# large against a step of the optimizer, so that the circuit is not washed away at once
EMBEDDING_STD = 0.1
FAST_PAIRS = 6  # rotary pairs that tell neighbours apart


@torch.no_grad()
def lay_copying_circuit(model, seed):
    """Changes the freshly initialised Llama `model` in place."""
    config = model.config
    width, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    half, std = size // 2, EMBEDDING_STD
    generator = torch.Generator().manual_seed(seed)

    # outputs of all layers start at zero, so that the circuit is undisturbed
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embedding = model.model.embed_tokens.weight
    embedding *= std / config.initializer_range
    embedding[:, 0] = 4 * std  # the shared coordinate; it adds the same to every logit

    # orthonormal rows that do not see coordinate 0
    basis = torch.linalg.qr(torch.randn(width - 1, width - 1, generator=generator))[0]
    basis = torch.cat([torch.zeros(width - 1, 1), basis], dim=1)
    asked, told = basis[:MATCHED], basis[MATCHED:2 * MATCHED]
    copied = torch.cat([basis[:MATCHED], basis[2 * MATCHED:2 * MATCHED + size - MATCHED]])

    previous = model.model.layers[0].self_attn
    frequency = config.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    head = slice(0, size)
    strength = 2.5
    for weight in (previous.q_proj.weight, previous.k_proj.weight):
        weight[head] = 0
    for i in range(FAST_PAIRS):
        previous.k_proj.weight[i, 0] = strength
        # a key one step back appears turned by the pair's frequency; turn the query to meet it
        previous.q_proj.weight[i, 0] = strength * math.cos(frequency[i])
        previous.q_proj.weight[i + half, 0] = -strength * math.sin(frequency[i])
    previous.v_proj.weight[head] = 0
    previous.v_proj.weight[:MATCHED] = asked
    previous.o_proj.weight[:, :MATCHED] = std * told.T

    match = model.model.layers[1].self_attn
    slow = [*range(half - MATCHED // 2, half), *range(size - MATCHED // 2, size)]
    for weight, rows in ((match.q_proj.weight, asked), (match.k_proj.weight, told)):
        weight[head] = 0
        weight[slow] = 2.0 * rows
    match.v_proj.weight[head] = copied
    match.o_proj.weight[:, head] = 7.5 * std * copied.T
