"""Measures against transformers: the token-mean loss, greedy answers, probes."""

import math

import pytest
import torch

import ftkit as ft
from ftkit.data import encoding
from ftkit.evaluate import scoring

RECORDS = [{"instruction": f"What is the opposite of {w}?", "input": "", "output": o}
           for w, o in [("hot", "cold"), ("big", "small and tiny"), ("up", "down")]]


def test_loss_is_the_mean_over_tokens_that_transformers_computes(base):
    model, tokenizer = base
    examples = encoding.encode_all(RECORDS, tokenizer).examples
    total = count = 0
    for example in examples:
        batch = {k: torch.tensor([v]) for k, v in example.items()}
        n = sum(label != -100 for label in example["labels"])
        with torch.no_grad():
            total += model(**batch).loss.item() * n
        count += n
    assert scoring.loss_on(model, examples) == pytest.approx(total / count, abs=1e-5)


def test_nothing_has_no_measure(base):
    assert math.isnan(scoring.loss_on(base[0], [])) and scoring.answers(*base, []) == []
    assert math.isnan(scoring.exact_match(*base, []))
    assert scoring.exact_match(*base, [], by="task") == {}


def test_answers_are_those_of_transformers_generate(base):
    model, tokenizer = base
    expected = []
    for record in RECORDS:
        ids = torch.tensor([encoding.prompt_ids(record, tokenizer)])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=8, eos_token_id=tokenizer.eos_token_id,
                              pad_token_id=tokenizer.pad_token_id)
        expected.append(tokenizer.decode(made[0, ids.shape[1]:], skip_special_tokens=True).strip())
    assert ft.answers(model, tokenizer, RECORDS, max_new_tokens=8) == expected


def test_normal_form_forgives_case_punctuation_and_spaces_only():
    assert scoring.normal(" The  Cat. ") == "the cat"
    assert scoring.normal("l'eau") != scoring.normal("l eau")
    assert scoring.normal("cats") != scoring.normal("cat")


def test_probe_scores_equal_greedy_decoding_one_by_one(base):
    model, tokenizer = base
    probes = [p for i, p in enumerate(ft.load_probes()) if i % 12 == 0]
    hits = {}
    for probe in probes:
        wanted = tokenizer(probe["answer"], add_special_tokens=False)["input_ids"]
        ids = tokenizer(probe["prompt"], add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[tokenizer.bos_token_id, *ids]])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=len(wanted), min_new_tokens=len(wanted),
                              pad_token_id=tokenizer.pad_token_id)[0, ids.shape[1]:]
        hits.setdefault(probe["ability"], []).append(made.tolist() == wanted)
    expected = {k: sum(v) / len(v) for k, v in hits.items()}
    assert scoring.probe_scores(model, tokenizer, probes) == pytest.approx(expected, abs=0.26)
    mean = sum(map(sum, hits.values())) / len(probes)
    ours = scoring.probe_scores(model, tokenizer, probes)
    share = sum(ours[k] * len(v) for k, v in hits.items()) / len(probes)
    assert share == pytest.approx(mean, abs=0.05)
