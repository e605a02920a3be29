"""The glossary: every entry has its form, is found by its names, and is short."""

import re

import pytest

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.lessons import glossary

pytestmark = pytest.mark.quick
TERMS = glossary.read()


def test_the_whole_glossary_is_a_table_with_links():
    page = ft.glossary()
    assert len(page) == len(TERMS) >= 150
    html = page._repr_html_()
    targets = re.findall(r" id='([^']+)'", html)
    assert len(set(targets)) == len(TERMS)
    assert set(re.findall(r"href='#([^']+)'", html)) <= set(targets)
    assert "QLoRA (lesson 10): LoRA on a frozen" in repr(page)


@pytest.mark.parametrize("given, term", [
    ("LoRA", "LoRA"), ("lora", "LoRA"), ("Learning Rates", "learning rate"),
    ("sft", "instruction tuning"), ("gradient-checkpointing", "activation checkpointing"),
    ("loss", "loss"),
    ("merging", "merging (of an adapter)"), ("NLL", "negative log-likelihood")])
def test_a_term_is_found_by_its_names(given, term):
    assert ft.glossary(given).term == term
    assert term in ft.glossary(given)._repr_html_()


@pytest.mark.parametrize("given, words", [
    ("lorra", "LoRA"), ("checkpoints averaging", "checkpoint averaging"),
    ("zero shot", "ZeRO|few-shot")])
def test_an_unknown_term_gets_suggestions(given, words):
    with pytest.raises(UserError, match=f"no {given!r}; it has .*({words})"):
        ft.glossary(given)


def test_a_word_that_is_like_no_term_is_sent_to_the_list():
    with pytest.raises(UserError, match="lists all terms"):
        ft.glossary("xyzzyqqq")


def test_names_are_unique_and_texts_short():
    names = [name.lower() for term in TERMS for name in (term.term, *term.names)]
    assert len(names) == len(set(names))
    for term in TERMS:
        assert term.text.endswith(".") and len(term.text.split()) <= 45, term
        assert 0 <= int(term.lesson[:2]) <= 22
