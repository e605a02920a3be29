"""Lesson 18, data quality."""

from ftkit.lessons.checks import exercise, near


def _threshold_mistake(keep_first, texts: list[str]) -> str | None:
    """The message for a wrong measure, a wrong limit or a comparison with dropped texts."""
    if list(keep_first(texts, similar=0.45)) != [0, 1, 3, 5, 6]:
        return ("with similar=0.45 France and Spain are both kept: they share 3 of 9 pieces. "
                "Divide by the union, not by the size of one set, which is 6")
    if (again := list(keep_first(texts, similar=0.3))) != [0, 1, 5, 6]:
        return (f"with similar=0.3 you keep {again}; France and Spain share 3 of 9 pieces, so "
                "expected [0, 1, 5, 6]")
    if list(keep_first(texts, similar=3 / 9)) != [0, 1, 5, 6]:
        return "similar=3/9 and two texts that share exactly 3 of 9: drop at similar or above (>=)"
    chain = ["a b c d e f g", "b c d e f g h", "c d e f g h i"]  # neighbors share 4 of 6 pieces
    if (again := list(keep_first(chain, similar=0.6))) != [0, 2]:
        return (f"text 1 is close to 0 and dropped, text 2 is close to 1 only; you keep {again}, "
                "expected [0, 2]: compare with texts that were KEPT")


@exercise("keep_first")
def _(keep_first):
    texts = ["What is the capital of France in Europe?", "Name an animal that can fly at night.",
             "what is the capital of france in europe", "What is the capital of Spain in Europe?",
             "Name an animal that can fly at night.", "Yes", "No"]
    kept = keep_first(texts)
    if not isinstance(kept, list | tuple):
        return f"it returned a {type(kept).__name__}; return a list of indices, in order"
    kept = list(kept)
    if kept == [2, 4]:
        return "these are the indices of the texts to drop; return those to keep"
    if kept and all(isinstance(k, str) for k in kept):
        return "return the indices, not the texts"
    letters = ["internationalization", "internationalizations"]
    if list(keep_first(letters)) != [0, 1]:
        return (f"{letters} are two words: shingles takes the list of words, words_of(text), and "
                "you gave it letters")
    turned = ["The dog bites the man now", "The man bites the dog now"]
    if list(keep_first(turned)) != [0, 1]:
        return f"{turned} share all words and mean the opposite: compare shingles, not words"
    if kept == [0, 1, 2, 3, 5, 6]:
        return "texts 0 and 2 differ in case and the question mark only: use words_of"
    if kept == [0, 1, 3]:
        return "texts 5 and 6, of one word each, have no three-word piece: use shingles"
    if 1 in kept and 4 in kept and list(keep_first(texts[4:5] * 2)) == [0]:
        return ("texts 1 and 4 are equal and both were kept: compare a text with every text that "
                "was kept before it, not with the one before it only")
    if 1 in kept and 4 in kept:
        return ("texts 1 and 4 are equal and both were kept: equal sets must give 1, so divide the "
                "shared pieces by the union, not by the sum of both sizes")
    if (2 in kept and 0 not in kept) or 4 in kept:
        return "of two that are nearly the same keep the first, not the last"
    if 3 not in kept:
        return "France and Spain share 3 of 9 pieces, that is not 0.8: divide by the union"
    if kept != [0, 1, 3, 5, 6]:
        return f"you keep {kept}; expected [0, 1, 3, 5, 6]"
    return _threshold_mistake(keep_first, texts)



@exercise("error_rates")
def _(error_rates):
    asked = ["What is blue?", "Name a fish.", "what is two?", "Name a bird.", "Say hello."]
    wrong = [True, False, True, True, False]
    got = {str(word): float(rate) for word, rate in error_rates(asked, wrong).items()}
    if "What" in got and "what" in got:
        return "'What' and 'what' are the same word: use lower()"
    if got.keys() == {"what", "name"}:
        return "'say' is missing: a group without an error has a rate of 0"
    if got.keys() != {"what", "name", "say"}:
        return f"the groups are {', '.join(got)}; expected what, name, say (lower case)"
    if near(got["what"], 2) and near(got["name"], 1):
        return "these are counts; divide by the number of records of the group"
    if near(got["what"], 2 / 3) and near(got["name"], 1 / 3):
        return "that is the group's part of all errors; divide by the records of the group"
    if near(got["what"], 2 / 5) and near(got["name"], 1 / 5):
        return "divide by the number of records of the group, not of all records"
    if near(got["what"], 0) and near(got["name"], 0.5) and near(got["say"], 1):
        return "that is the fraction of right answers; count the wrong ones"
    if got != {"what": 1.0, "name": 0.5, "say": 0.0}:
        return f"got {got}; expected what 1.0, name 0.5, say 0.0"
    third = error_rates(["What a", "What b", "What c"], [True, False, False])
    if not near(float(third["what"]), 1 / 3):
        return f"one wrong record of three gave {third['what']:.4g}; expected 1/3, not rounded"
