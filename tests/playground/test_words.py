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
    ("same", "Same settings as run 4, same result"),
    ("taught pairs", "It learned the pairs that it was taught: 2 of the 2 shown are right, 0 "
     "before. Of the 1 that it never saw, none is right, none before: such an answer has to"),
    ("three of five", "It learned part of the task: 2 of 5 questions right before, 3 of 5 after"),
    ("broken English", "The run broke the model's English: "),
    ("batches by chance", "3.32 → 3.58; each step has other records"),
    ("moved too high", "Learning rate 10, as it was moved while it trained (0.005 → 10 at step 2)"),
    ("nearest", "Run 1 had method LoRA of rank 8 and alpha 16 instead of Full and learning rate "
     "0.005 instead of 0.001"),
    ("no method of it", "run 11 trained with IA3; wanted: one run with Full at 5e-5 and one "),
    ("needs Full", "run 1 has no partner yet: train one with Full at 5e-5 and"),
    ("half taught", "It got worse at the task: 0 of 1 questions right before, 0 of 1 after (of 2 "),
    ("unchanged", "Its loss fell, but no more answers are right: 2 of 5"),
    ("unchanged", "It kept its English: general_loss 0.82 → 0.83 (“kept” is a rise of less than 5 "
     "percent)."),
    ("forgot some", "It forgot some of its English: general_loss 0.82 → 0.92 (a rise of 12 percent"
     "; “some” is from 5 to 120)."),
    ("wrong guess", "Not yet: run 7 ended at general_loss 1.54; wanted: above 8. So your guess, "
     "“Ten times the steps”, was not it."),
    ("close to the limit", "general_loss 0.8612, wanted: below 0.861"),
    ("too many records", "Not yet: run 1 trained on all records; wanted: at most 8."),
    ("a small rise", "val_loss ended at 0.0021 from a lowest of 0.002, wanted: at least 0.0024"),
    ("a tenth", "Solved: run 8 (LoRA, learning rate 0.005) ended at val_loss 0.10, run 9 (Full, "
     "learning rate 0.001) ended at val_loss 0.093 with 11.1 times the trained parameters"),
    ("kept runs", "run 8 (LoRA, learning rate 0.005) ended at val_loss 0.10, run 9 (Full, "),
    ("few pairs", "Only 8 of 18 are taught, as set under More; 2 are kept back and only asked"),
    ("all pairs", "18 are taught; 2 are kept back"), ("under More", "batch 8, 8 records"),
    ("other steps", "Not yet: run 8 has no partner yet"),
    ("start of 3", "Full, learning rate 0.001, 30 steps, batch 8, 8 records"),
])
def test_a_run_is_judged_by_its_start(said, name, words):
    assert words in said[name]
    assert name in ("overfitted",) or "overfitted" not in said[name]


@pytest.mark.parametrize("name, words", [
    ("a comma more", 'Row 2 ("Who is there?, Tom, Ann and Bo") has 3 columns and the header has 2. '
     "If a text goes on after one of its commas, put a text that has commas in quotation marks, "
     'as in "one, two, three",four.'),
    ("a semicolon more", "has 3 columns and a pair has 2. If a text goes on after one of its s"),
    ("quoted commas", '"output":"Tom, Ann"'), ("with input", '"input":"2","output":"3"'),
    ("with input", '"unused":["id"]'), ("a field more", '"unused":["context"]'),
    ("two turns", "Record 1 has other messages than one of the user and one of the assistant"),
])
def test_a_table_loses_no_text_silently(said, name, words):
    assert words in said[name]


def test_only_punctuation_is_overlooked(said):
    assert said["emoji"] == [False, True, False]
