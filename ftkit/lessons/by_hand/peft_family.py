"""IA3 and DoRA from scratch, as in lesson 03; tests compare them with peft's layers."""


def ia3_forward(x, W, scale, on_input: bool):
    """The output (n, d_out) of the frozen weight W (d_out, d_in) with IA3, for x (n, d_in).

    Liu et al. 2022, arXiv:2205.05638. scale has d_in values with `on_input`, else d_out.
    """
    return (x * scale) @ W.T if on_input else (x @ W.T) * scale


def dora_weight(W, A, B, magnitude, scaling: float):
    """DoRA's weight (d_out, d_in): W + scaling B A, with row i brought to the length magnitude[i].

    Liu et al. 2024, arXiv:2402.09353. W (d_out, d_in), A (r, d_in), B (d_out, r).
    """
    V = W + scaling * B @ A
    return magnitude[:, None] * V / V.norm(dim=1, keepdim=True)
