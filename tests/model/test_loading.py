"""Where the weights of a loaded model are."""

import pytest
import torch

from ftkit.model import loading


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_a_small_model_begin_at_the_lines_of_a_cache(dtype, monkeypatch):
    def places():
        model, _ = loading._load_whole(str(loading.tiny_path()), None, "cpu", dtype)
        assert model.lm_head.weight is model.model.embed_tokens.weight  # still tied
        return {p.data_ptr() % 64 for p in model.parameters()}

    assert places() == {0}
    monkeypatch.setattr(loading, "LEAVES_FILE", 1000)  # a large one stays in its file
    assert (places() == {0}) is (dtype != torch.float32)  # which has other bytes than bf16
