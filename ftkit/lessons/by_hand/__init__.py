"""LoRA, NF4 and floating-point rounding written from scratch, tested against the libraries."""
