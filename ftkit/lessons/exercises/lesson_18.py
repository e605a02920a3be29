"""Lesson 18, data quality."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_number


@exercise("keep_first")
def _(keep_first):
    texts = ["What is the capital of France in Europe?", "Name an animal that can fly at night.",
             "what is the capital of france in europe", "What is the capital of Spain in Europe?",
             "Name an animal that can fly at night.", "Yes", "No"]
    kept = list(keep_first(texts))
    if kept == [0, 1, 3, 5, 6]:
        again = list(keep_first(texts, similar=0.3))
        return None if again == [0, 1, 5, 6] else (
            f"with similar=0.3 you keep {again}; France and Spain share 3 of 9 pieces, so "
            "expected [0, 1, 5, 6]")
    if kept == [0, 1, 2, 3, 5, 6]:
        return "texts 0 and 2 differ in case and the question mark only: lower() and \\w+ first"
    if kept == [0, 1, 3]:
        return "texts 5 and 6, of one word each, have no three-word piece: take what there is"
    if kept and all(isinstance(k, str) for k in kept):
        return "return the indices, not the texts"
    if (2 in kept and 0 not in kept) or 4 in kept:
        return "of two that are nearly the same keep the first, not the last"
    if 3 not in kept:
        return "France and Spain share 3 of 9 pieces, that is not 0.8: divide by the union"
    return f"you keep {kept}; expected [0, 1, 3, 5, 6]"


@exercise("contaminated")
def _(contaminated):
    test = ("The farmer who lived by the river had seven brown cows and two old horses, and "
            "none of them liked rain.")
    quoted = "As we read: the farmer who lived by the RIVER had seven brown cows and two old " \
             "horses -- so it goes"
    scattered = ("the river had seven farmers who lived by two old cows and brown horses and none "
                 "liked rain or them")
    if not contaminated(quoted, [test]):
        if contaminated(quoted.replace("RIVER", "river").replace(" --", ","), [test]):
            return "the quotation differs in case and punctuation only: normalize both sides"
        return "the text quotes 16 words of the test, in a row; it was not found"
    if contaminated(scattered, [test]):
        return "the same words in another order are no run of 13: compare runs, not sets of words"
    if contaminated("seven brown cows and two old horses", [test]):
        return "only 7 words in a row are shared; with n=13 that is no hit"
    if not contaminated("seven brown cows and two old horses", [test], n=7):
        return "with n=7 those 7 words are a hit: use n"
    if contaminated("nothing of the kind", []):
        return "without tests nothing is contaminated"


@exercise("data_cards")
def _(cards):
    filled = [v for card in cards.values() for v in card.values() if v is not ...]
    if not filled:
        raise NotImplementedError
    records = {"Alpaca": 52_000, "Dolly": 15_000, "ShareGPT (Vicuna)": 70_000}
    tasks = _number(cards["Flan 2022"]["tasks"])
    if message := check_number("for Flan 2022 you", tasks, 1836, {
            1.8e6: "1.8 thousand tasks (1,836), not 1.8 million",
            62: "that is FLAN of 2021; the collection of 2022 has many more tasks"}, 0.05):
        return message
    for name, wanted in records.items():
        number = _number(cards[name]["records"])
        if message := check_number(f"for {name} you", number, wanted, tolerance=0.1):
            return message
    who = {name: str(cards[name]["answers"]).lower() for name in records}
    if who["ShareGPT (Vicuna)"] != "model":
        return "ShareGPT: people wrote the prompts; the answers are a model's"
    if who["Alpaca"] != "model":
        return "Alpaca: text-davinci-003, a model, wrote instructions and answers"
    if who["Dolly"] != "people":
        return "Dolly: employees of Databricks wrote the answers, so people"


def _number(value) -> float:
    return 0.0 if value is ... else float(value)
