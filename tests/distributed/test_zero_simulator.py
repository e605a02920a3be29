"""Simulated ranks: the same update as torch, the paper's bytes and traffic, no impossible move."""

import pytest
import torch

from ftkit.distributed import zero_simulator
from ftkit.memory_use import formula


def batches(ranks, width=8, seed=1, size=4):
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(size, width, generator=draw), torch.randn(size, width, generator=draw))
            for _ in range(ranks)]


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_three_steps_equal_torch_adamw_on_the_whole_batch(stage, ranks):
    world = zero_simulator.World(ranks=ranks, stage=stage, lr=0.02)
    weights = [torch.nn.Parameter(w.clone()) for w in world.weights()]
    optimizer = torch.optim.AdamW(weights, lr=0.02, weight_decay=0.0)
    for t in range(3):
        fed = batches(ranks, seed=t)
        world.feed(fed)
        zero_simulator.step(world)
        x, y = (torch.cat(side) for side in zip(*fed, strict=True))
        for w in weights:
            x = torch.tanh(x @ w)
        torch.nn.functional.mse_loss(x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    for ours, theirs in zip(world.weights(), weights, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


# Elements per rank, in parameters: all-reduce counts twice (reduce-scatter and all-gather).
@pytest.mark.parametrize("stage, times", [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_a_step_moves_two_or_three_times_the_parameters(stage, times):
    world = zero_simulator.World(stage=stage)
    world.feed(batches(4))
    zero_simulator.step(world)
    assert sum(world.moved.values()) == times * 3 * 64 == zero_simulator.volume(3 * 64, stage)


@pytest.mark.parametrize("stage, rest", [(0, 12), (1, 4 + 8 / 4), (2, 4 + 8 / 4), (3, 12 / 4)])
def test_at_rest_each_rank_holds_its_share(stage, rest):
    world = zero_simulator.World(ranks=4, stage=stage)
    world.feed(batches(4))
    zero_simulator.step(world)
    assert [sum(held.values()) for held in world.held()] == [rest * 3 * 64] * 4


def test_the_peak_falls_with_each_stage():
    peaks = []
    for stage in range(4):
        world = zero_simulator.World(ranks=4, layers=6, stage=stage)
        world.feed(batches(4))
        zero_simulator.step(world)
        peaks.append(max(world.peak))
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 4
    assert peaks[0] == 16 * 6 * 64 and peaks[1] == 10 * 6 * 64


def moves(stage, *names):
    world = zero_simulator.World(ranks=2, layers=1, stage=stage)
    for name in names:
        world.feed(batches(2)) if name == "feed" else (
            world.update() if name == "update" else getattr(world, name)(0))


@pytest.mark.parametrize("stage, names, words", [
    (3, ["feed", "forward"], "only the parameters 0 to 31 of 64"),
    (0, ["forward"], "has no input for layer 0"),
    (0, ["feed", "backward"], "no gradient has reached layer 0"),
    (0, ["feed", "forward", "backward", "update"], "of its own batch alone"),
    (0, ["feed", "update"], "has no gradient of layer 0"),
    (0, ["feed", "forward", "all_reduce"], "has no gradient of layer 0"),
    (0, ["feed", "forward", "backward", "all_reduce", "all_reduce"], "already summed"),
    (1, ["feed", "forward", "backward", "reduce_scatter", "update", "feed", "forward"],
     "is from the previous step"),
])
def test_an_impossible_move_is_refused_with_its_reason(stage, names, words):
    with pytest.raises(zero_simulator.IllegalMove, match=words):
        moves(stage, *names)


def test_a_refused_move_changes_nothing():
    world, other = zero_simulator.World(ranks=2), zero_simulator.World(ranks=2)
    for one in (world, other):
        one.feed(batches(2))
        for layer in one.layers:
            one.forward(layer)
        for layer in reversed(one.layers):
            one.backward(layer)
    with pytest.raises(zero_simulator.IllegalMove):
        world.update()
    for one in (world, other):
        for layer in one.layers:
            one.all_reduce(layer)
        one.update()
    assert all(map(torch.equal, world.weights(), other.weights()))


def test_the_papers_table():
    mixed = {"weights": 2, "gradients": 2, "optimizer": 12}
    table = [
        sum(formula.zero_states(7.5e9, 64, stage, **mixed).values()) / 1e9 for stage in range(4)
    ]
    assert [round(x, 1) for x in table] == [120.0, 31.4, 16.6, 1.9]
    llama = [
        sum(formula.zero_states(6.738e9, 8, stage, **mixed).values()) / 1e9 for stage in range(4)
    ]
    assert [round(x, 1) for x in llama] == [107.8, 37.1, 25.3, 13.5]


def test_a_world_draws_itself_and_says_the_same_in_words():
    world = zero_simulator.World(ranks=2, stage=1)
    assert "<svg" in world._repr_html_() and "stage 1, 2 ranks" in repr(world)
    assert repr(world).split(";")[1].strip() in world._repr_html_()


def test_seconds_of_a_step_are_those_counted_by_hand():
    """70B on 4,096 tokens, checkpointed: 8 operations a parameter and token; stage 3 moves 3 values
    of 2 bytes. LoRA needs no gradient of the frozen weights: 4 instead of 6."""
    made = zero_simulator.seconds(70e9, 4096, 3, flops=4e14, link=5e10, checkpointing=True)
    assert made == pytest.approx({"compute": 8 * 70e9 * 4096 / 4e14,
                                  "communication": 6 * 70e9 / 5e10})
    lora = zero_simulator.seconds(7e9, 1000, flops=1e12, link=1e9, trainable=0)
    assert lora == pytest.approx({"compute": 4 * 7e9 * 1000 / 1e12, "communication": 0})
    assert zero_simulator.seconds(7e9, 1, flops=1, link=1)["compute"] == 6 * 7e9


def test_the_tokens_at_which_compute_hides_the_link_do_not_depend_on_the_model():
    for parameters in (1e9, 70e9):
        step = zero_simulator.seconds(parameters, 0.75 * 4e14 / 5e10, 3, flops=4e14, link=5e10,
                            checkpointing=True)
        assert step["compute"] == pytest.approx(step["communication"])
