"""ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054): which rank holds which part of the states.

    world = World(ranks=4, stage=2); world.feed(batches); step(world); world  # draws itself

A World is a small network on simulated ranks. It computes real updates, counts the bytes that each
rank holds and the elements that each collective moves, and refuses an operation if a rank does not
hold the tensors that it needs.
"""

import dataclasses

import torch

from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html
from ftkit.report.style import COLORS

PARTS = ("parameters", "gradients", "optimizer")


def volume(parameters: float, stage: int = 0, trainable: float | None = None) -> float:
    """Elements that a rank sends (and receives) in one step, for many ranks (paper, section 7).

    Up to stage 2, gradients are summed and updated parameters are gathered: twice the number of
    trained parameters. Stage 3 gathers all parameters for the forward and again for the backward
    pass, and sums gradients.
    """
    trainable = parameters if trainable is None else trainable
    return 2 * parameters + trainable if stage == 3 else 2 * trainable


def seconds(parameters: float, tokens: float, stage: int = 0, *, flops: float, link: float,
            trainable: float | None = None, checkpointing: bool = False) -> dict:
    """Seconds of a step of `tokens` tokens per rank: compute, and communication without overlap.

    Operations per parameter and token: 2 in the forward pass, 2 for the gradient of the input, 2
    for the gradient of a trained parameter, and 2 to recompute the forward pass (Kaplan et al.
    2020, section 2.1, without attention). flops: operations per second that a rank achieves.
    link: bytes per second between ranks; an element has 2 bytes.
    """
    trained = parameters if trainable is None else trainable
    work = (6 if checkpointing else 4) * parameters + 2 * trained
    return {"compute": work * tokens / flops,
            "communication": 2 * volume(parameters, stage, trainable) / link}


class IllegalMove(ValueError):
    """A rank does not hold what an operation needs. Notebooks show the message alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not allowed: {self}"]


@dataclasses.dataclass
class Piece:
    """Elements [start, stop) of one layer's flat tensor, as one rank holds them.

    good: the range that is up to date (parameters) or summed over the ranks (gradients).
    """

    values: torch.Tensor
    start: int
    good: tuple[int, int]

    @property
    def stop(self) -> int:
        return self.start + len(self.values)

    def part(self, start: int, stop: int) -> torch.Tensor:
        return self.values[start - self.start : stop - self.start]


class World:
    """`layers` layers x → tanh(x W), W: (width, width), on `ranks` simulated ranks, fp32, AdamW.

    stage: which states are sharded at the start (0: none, 1 and 2: the optimizer's, 3: parameters
    too). Operations: feed, then for a layer all_gather, drop, forward, backward, all_reduce,
    reduce_scatter, update. An impossible one raises IllegalMove. `held()` is bytes per rank and
    part, `peak` is the maximum of each rank, `moved` the elements moved per rank by collective.
    """

    def __init__(self, ranks: int = 4, layers: int = 3, width: int = 8, *, stage: int = 0,
                 lr: float = 0.01, seed: int = 0):
        if stage not in (0, 1, 2, 3):
            raise UserError(f"stage is {stage!r}; expected 0, 1, 2 or 3")
        self.n, self.width, self.stage, self.lr = width * width, width, stage, lr
        if not 1 <= ranks <= self.n:
            raise UserError(f"ranks is {ranks!r}; expected 1 to {self.n}, the elements of a layer")
        self.layers, self.ranks, self.t = range(layers), range(ranks), 0
        self.moved = dict.fromkeys(("all_gather", "all_reduce", "reduce_scatter"), 0)
        draw = torch.Generator().manual_seed(seed)
        first = [torch.randn(self.n, generator=draw) / width**0.5 for _ in self.layers]
        self.pieces = {"parameters": {}, "gradients": {}, "optimizer": {}}
        for rank in self.ranks:
            for layer, values in enumerate(first):
                start, stop = self.shard(rank) if stage == 3 else (0, self.n)
                self._put("parameters", rank, layer, values[start:stop].clone(), start)
                start, stop = self.shard(rank) if stage else (0, self.n)
                self._put("optimizer", rank, layer, torch.zeros(2, stop - start).T, start)
        self.inputs, self.peak = {}, [0] * ranks
        self._note()

    def shard(self, rank: int) -> tuple[int, int]:
        """The elements of every layer that `rank` owns: [start, stop)."""
        return rank * self.n // len(self.ranks), (rank + 1) * self.n // len(self.ranks)

    # ---------------------------------------------------------------------------- moves

    def feed(self, batches: list[tuple[torch.Tensor, torch.Tensor]]):
        """Begin a step: give each rank its own batch (x, y), each (B, width)."""
        if len(batches) != len(self.ranks):
            raise IllegalMove(f"{len(batches)} batches were given for {len(self.ranks)} ranks; "
                              "expected one for each rank")
        total = sum(len(x) for x, _ in batches)
        self.inputs = {(rank, 0): x for rank, (x, _) in enumerate(batches)}
        self.targets = [(y, total) for _, y in batches]
        self.upstream = {}

    def forward(self, layer: int):
        """Compute the layer on each rank's batch. This needs the whole, up-to-date W."""
        for rank in self.ranks:
            W = self._whole(rank, layer, "forward")
            if (rank, layer) not in self.inputs:
                raise IllegalMove(f"rank {rank} has no input for layer {layer}. Feed a batch, then "
                                  "call forward on the layers in order.")
            self.inputs[rank, layer + 1] = torch.tanh(self.inputs[rank, layer] @ W)
            if layer == self.layers[-1]:
                y, total = self.targets[rank]
                self.upstream[rank, layer] = 2 * (self.inputs[rank, layer + 1] - y) / (
                    total * self.width)

    def backward(self, layer: int):
        """Compute the gradient of the layer's weights W on the batch of each rank, after `forward`,
        from the last layer down. Raises IllegalMove if a rank lacks the whole, current W or the
        gradient of the layer's output."""
        for rank in self.ranks:
            W = self._whole(rank, layer, "backward")
            if (rank, layer) not in self.upstream:
                raise IllegalMove(f"no gradient has reached layer {layer} on rank {rank}. Call "
                                  "forward on all layers, then backward from the last one.")
            above = self.upstream.pop((rank, layer)) * (1 - self.inputs[rank, layer + 1] ** 2)
            gradient = self.inputs[rank, layer].T @ above
            self.upstream[rank, layer - 1] = above @ W.T
            self._put("gradients", rank, layer, gradient.flatten(), 0, good=(0, 0))
        self._note()

    def all_gather(self, layer: int):
        """Assemble the whole W on every rank from its owners (moves n elements)."""
        parts = []
        for rank in self.ranks:
            piece, (start, stop) = self.pieces["parameters"][rank, layer], self.shard(rank)
            if not (piece.good[0] <= start and stop <= piece.good[1]):
                raise IllegalMove(f"rank {rank} has no current copy of its own part of layer "
                                  f"{layer}. Call update on the layer first.")
            parts.append(piece.part(start, stop))
        self.moved["all_gather"] += self.n
        for rank in self.ranks:
            self._put("parameters", rank, layer, torch.cat(parts), 0)
        self._note()

    def drop(self, layer: int):
        """Free all of W except each rank's own shard."""
        for rank in self.ranks:
            start, stop = self.shard(rank)
            piece = self.pieces["parameters"][rank, layer]
            self._put("parameters", rank, layer, piece.part(start, stop).clone(), start)

    def all_reduce(self, layer: int):
        """Sum the gradients on every rank (moves 2 n elements: a reduce-scatter and an
        all-gather)."""
        total = self._sum(layer)
        self.moved["all_reduce"] += 2 * self.n
        for rank in self.ranks:
            self._put("gradients", rank, layer, total.clone(), 0)

    def reduce_scatter(self, layer: int):
        """Sum each rank's own shard of the gradients and free the rest (moves n elements)."""
        total = self._sum(layer)
        self.moved["reduce_scatter"] += self.n
        for rank in self.ranks:
            start, stop = self.shard(rank)
            self._put("gradients", rank, layer, total[start:stop].clone(), start)

    def update(self):
        """Apply AdamW where a rank holds the optimizer state, then free the gradients."""
        for (rank, layer), state in self.pieces["optimizer"].items():
            gradient = self.pieces["gradients"].get((rank, layer))
            if gradient is None:
                raise IllegalMove(f"rank {rank} has no gradient of layer {layer}. Call backward "
                                  "first.")
            if not (gradient.good[0] <= state.start and state.stop <= gradient.good[1]):
                raise IllegalMove(f"rank {rank} would update layer {layer} with the gradient of "
                                  "its own batch alone. Call all_reduce or reduce_scatter first.")
        self.t += 1
        for (rank, layer), state in self.pieces["optimizer"].items():
            gradient = self.pieces["gradients"][rank, layer]
            g = gradient.part(state.start, state.stop)
            m, v = state.values[:, 0], state.values[:, 1]
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            weight = self.pieces["parameters"][rank, layer]
            weight.part(state.start, state.stop).sub_(
                self.lr * (m / (1 - 0.9**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + 1e-8))
            weight.good = (state.start, state.stop)
        self.pieces["gradients"].clear()
        self.inputs = {}

    # -------------------------------------------------------------------------- looking

    def weights(self) -> list[torch.Tensor]:
        """Return each layer's W, (width, width), assembled from its owners."""
        return [torch.cat([self.pieces["parameters"][rank, layer].part(*self.shard(rank))
                           for rank in self.ranks]).view(self.width, -1) for layer in self.layers]

    def held(self) -> list[dict]:
        """Bytes that each rank holds now, by part."""
        return [{part: sum(piece.values.nbytes for (r, _), piece in self.pieces[part].items()
                           if r == rank) for part in PARTS} for rank in self.ranks]

    def __repr__(self) -> str:
        sums = [f"{sum(held.values()):,}" for held in self.held()]
        moved = ", ".join(f"{name} {count:,}" for name, count in self.moved.items() if count)
        return (f"World(stage {self.stage}, {len(self.ranks)} ranks; bytes now {', '.join(sums)}; "
                f"at most {max(self.peak):,}; elements moved per rank: {moved or 'none'})")

    def _repr_html_(self) -> str:
        """Draw a row per rank and a box per layer, in the owner's color. A filled part is held; a
        pale part is held but out of date (parameters) or not yet summed (gradients)."""
        box, gap, line, left = 66, 8, 26, 56
        rows, count = [], len(self.layers)
        for rank, held in zip(self.ranks, self.held(), strict=True):
            y = line * rank + 30
            rows.append(f"<text x='4' y='{y + 13}'>rank {rank}</text>")
            for column, part in enumerate(PARTS):
                for layer in self.layers:
                    x = left + column * (count * (box + 4) + 3 * gap) + layer * (box + 4)
                    rows.append(self._box(part, rank, layer, x, y, box, line - 10))
            x = left + 3 * (count * (box + 4) + 3 * gap)
            rows.append(f"<text x='{x}' y='{y + 13}'>{sum(held.values()):,} B</text>")
        heads = "".join(
            f"<text x='{left + i * (count * (box + 4) + 3 * gap)}' y='18'>{part}</text>"
            for i, part in enumerate(PARTS))
        width = max(760, left + 3 * (count * (box + 4) + 3 * gap) + 80)  # for the legend
        height = line * len(self.ranks) + 64
        rows.append(self._legend(left, height - 30))
        return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
                f"viewBox='0 0 {width} {height}' style='max-width:100%;height:auto' "
                f"font-family='sans-serif' font-size='12'>"
                f"<rect width='100%' height='100%' fill='white'/>{heads}{''.join(rows)}</svg>"
                f"<div>{to_html(repr(self))}</div>")

    @staticmethod
    def _legend(x, y):
        drawn = []
        for at, opacity, meaning in ((0, 1, "current, or summed"),
                                     (160, 0.25, "out of date, or of this rank's batch alone"),
                                     (440, 0, "not held (color: owner of the part)")):
            drawn.append(f"<rect x='{x + at}' y='{y}' width='20' height='14' fill='{COLORS[0]}' "
                         f"fill-opacity='{opacity}' stroke='#999'/>"
                         f"<text x='{x + at + 26}' y='{y + 12}'>{meaning}</text>")
        return "".join(drawn)

    def _box(self, part, rank, layer, x, y, width, height):
        frame = (f"<rect x='{x}' y='{y}' width='{width}' height='{height}' fill='white' "
                 "stroke='#999'/>")
        piece = self.pieces[part].get((rank, layer))
        if piece is None:
            return frame
        drawn = [frame]
        for owner in self.ranks:
            start, stop = self.shard(owner)
            start, stop = max(start, piece.start), min(stop, piece.stop)
            if start >= stop:
                continue
            good = piece.good[0] <= start and stop <= piece.good[1]
            at, wide = x + width * start / self.n, width * (stop - start) / self.n
            drawn.append(f"<rect x='{at:.1f}' y='{y}' width='{wide:.1f}' height='{height}' "
                         f"fill='{COLORS[owner % 7]}' fill-opacity='{1 if good else 0.25}'/>")
        return "".join(drawn)

    # --------------------------------------------------------------------------- inside

    def _put(self, part, rank, layer, values, start, good=None):
        good = (start, start + len(values)) if good is None else good
        self.pieces[part][rank, layer] = Piece(values, start, good)

    def _note(self):
        now = [sum(held.values()) for held in self.held()]
        self.peak = [max(pair) for pair in zip(self.peak, now, strict=True)]

    def _whole(self, rank, layer, what):
        piece = self.pieces["parameters"][rank, layer]
        if len(piece.values) < self.n:
            raise IllegalMove(f"rank {rank} cannot {what} layer {layer}, because it holds only the "
                              f"parameters {piece.start} to {piece.stop - 1} of {self.n}. Call "
                              "all_gather first.")
        if piece.good != (0, self.n):
            raise IllegalMove(f"rank {rank} cannot {what} layer {layer}, because its copy of the "
                              "other ranks' parts is from the previous step. Call all_gather "
                              "first.")
        return piece.values.view(self.width, self.width)

    def _sum(self, layer):
        total = torch.zeros(self.n)
        for rank in self.ranks:
            piece = self.pieces["gradients"].get((rank, layer))
            if piece is None:
                raise IllegalMove(f"rank {rank} has no gradient of layer {layer}. Call backward "
                                  "first.")
            if piece.good != (0, 0):
                raise IllegalMove(f"the gradients of layer {layer} are already summed. A second "
                                  "sum would count every batch several times.")
            total += piece.values
        return total


def step(world: World):
    """Take one training step at the world's ZeRO stage, on the batches given to `feed`."""
    for layer in world.layers:
        if world.stage == 3:
            world.all_gather(layer)
        world.forward(layer)
        if world.stage == 3:
            world.drop(layer)
    for layer in reversed(world.layers):
        if world.stage == 3:
            world.all_gather(layer)
        world.backward(layer)
        if world.stage == 3:
            world.drop(layer)
        if world.stage >= 2:  # immediately, so that only one whole gradient exists at a time
            world.reduce_scatter(layer)
    for layer in world.layers:
        if world.stage == 0:
            world.all_reduce(layer)
        elif world.stage == 1:
            world.reduce_scatter(layer)
    world.update()
    if world.stage in (1, 2):
        for layer in world.layers:
            world.all_gather(layer)
