"""The sentences of the playground about a run: true by what was before and after it."""

import pytest


@pytest.fixture(scope="module")
def said(node):
    return node("words.mjs")


@pytest.mark.parametrize("name, words", [
    ("learned", "It learned the task: 2 of 5 questions right before, 5 of 5 after"),
    ("answers fell", "It answers worse than before: 2 of 5 questions right before, 0 of 5"),
    ("odd pairs", "It hardly learned: "), ("broken", "The run broke the model: general_loss 0.82"),
    ("overfitted", "It overfitted: val_loss was lowest at step 1, and rose since (0.070 → 0.40)"),
    ("noisy", "the training loss did not fall meanwhile"),
    ("one epoch", "val_loss was lowest at step 1"),
    ("worse", "It got worse at the task: "), ("changed", "0.005 instead of 0.005 → 0.01 at step 9"),
    ("compared", "LoRA of rank 8 and alpha 16 instead of Full and learning rate 0.005 instead of "),
    ("compared", "2 settings differ, so no single one explains the difference"),
])
def test_a_run_is_judged_by_its_start(said, name, words):
    assert words in said[name]
    assert name in ("overfitted",) or "overfitted" not in said[name]


def test_equal_settings_are_not_compared_and_only_punctuation_is_overlooked(said):
    assert said["same"] == ""
    assert said["emoji"] == [False, True, False]
