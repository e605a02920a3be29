"""The lessons that are rewritten have the form of the second edition; judge.py has the rules.

`python tests/lessons/judge.py NN` prints what is missing, for a lesson that is not listed too.
"""

import textwrap

import judge
import pytest

pytestmark = pytest.mark.quick

# One number a line.
SECOND_EDITION = [
    "00",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "07",
    "08",
    "09",
    "10",
    "11",
    "12",
    "13",
    "14",
    "15",
    "16",
    "17",
    "18",
    "19",
    "20",
    "21",
    "22",
]


@pytest.mark.parametrize("number", SECOND_EDITION)
def test_a_rewritten_lesson_has_the_form_of_the_second_edition(number):
    found = judge.violations(judge.source_of(number))
    assert not found, "\n".join(["", *found])


# ------------------------------------------------------------------------ the judge itself


def markdown(text):
    return [judge.Cell(0, "markdown", textwrap.dedent(text))]


def code(*cells):
    return [judge.Cell(i, "code", textwrap.dedent(cell)) for i, cell in enumerate(cells)]


def test_sentences_are_split_where_a_reader_would():
    text = """
    ## A heading is no sentence. None.

    Values of 0.5, e.g. those of [Hu et al. 2021](https://arxiv.org/abs/2106.09685), are usual (see
    Fig. 3). `r=8` is the default! Is *this* one? "Yes."

    | a table. | is. Not |

    - one item
    - another, of $W + BA$ and `x.y`. With two sentences.

    ```python
    code = "no. Sentence."
    ```
    <details><summary>Answer</summary>
    An answer counts.
    </details>
    > So does a quotation.
    """
    assert judge.sentences(textwrap.dedent(text)) == [
        "Values of 0.5, e.g. those of Hu et al. 2021, are usual (see Fig. 3).",
        "Code is the default!", "Is *this* one?", '"Yes."', "one item",
        "another, of Formula and Code.", "With two sentences.", "Answer", "An answer counts.",
        "So does a quotation."]


def test_long_sentences_are_listed_when_they_are_more_than_two_percent():
    long = "word " * 31 + "end."
    assert len(list(judge.long_sentences(markdown(long + " This one is short.")))) == 2
    assert not list(judge.long_sentences(markdown(long + " This one is short." * 50)))
    assert not list(judge.long_sentences(markdown("word " * 29 + "end.")))


@pytest.mark.parametrize(("text", "phrase"), [
    ("The prompt carries no loss.", "carry loss"), ("It goes on.", "goes on"),
    ("so many\nsteps", "so many (noun)"), ("At the rate above", "the rate (of learning, alone)"),
    ("as many steps as before", "as many steps as")])
def test_a_banned_phrase_is_found(text, phrase):
    (found,) = judge.banned_phrases(markdown(text))
    assert repr(phrase) in found
    assert len(list(judge.banned_phrases(code(f"label = '{' '.join(text.split())}'")))) == 1


@pytest.mark.parametrize("text", [
    'He said "it goes on".', "> it goes on", "`dear`", "a dearth", "the rate of failure",
    "as many steps as 3 epochs", "<!-- by heart -->", "```\nby heart\n```", "the rates"])
def test_quotations_and_names_are_exempt(text):
    assert not list(judge.banned_phrases(markdown(text)))


ASK = 'guess = ft.predict("Which is lower?", "full", "LoRA", "no difference seen")\nguess'


def test_each_option_of_a_guess_must_be_an_outcome():
    (found,) = judge.guesses(code(ASK, 'guess.score("full" if a < b else "no difference seen")'))
    assert "'LoRA'" in found
    rule = 'guess.score({"<": "full", ">": "LoRA", "": "no difference seen"}[direction(a, b)])'
    assert not list(judge.guesses(code(ASK, rule)))
    named = 'rule = {"<": "full", ">": "LoRA", "": "no difference seen"}'
    assert not list(judge.guesses(code(ASK, named, "guess.score(rule[direction(a, b)])")))


def test_a_guess_is_scored_in_a_later_cell():
    assert "scored in no later" in list(judge.guesses(code(ASK)))[0]
    (undrawn, _) = judge.guesses(code(ASK.removesuffix("\nguess")))
    assert "its last line must be `guess`" in undrawn
    found = list(judge.guesses(code(ASK + "\nguess.score(guess.options[0])")))
    assert any("asks and scores" in line for line in found)


def test_a_figure_needs_a_text_and_a_file():
    assert "no concept figure" in list(judge.concept_figure(markdown("Text.")))[0]
    found = list(judge.concept_figure(markdown("![short](figures/none.svg)")))
    assert len(found) == 2


def test_the_box_at_135m_or_the_reason_why_not():
    assert list(judge.at_135m(markdown("## At 135M\n\nText.")))
    assert not list(judge.at_135m(markdown("No box At 135M: it is arithmetic.")))
    assert not list(judge.at_135m(markdown("## At 135M") + code('at_135m("x", verdict)')))
    elsewhere = markdown("## At 135M") + markdown("## Recap") + code('at_135m("x", verdict)')
    assert list(judge.at_135m(elsewhere))


def test_the_practice_block_is_the_first_one_under_its_heading():
    text = "```python\na = 1\n```\n\n## In practice, 2026\n\n```python\nb = 2\n```\n"
    assert judge.practice_block(markdown(text)) == "b = 2\n"
    later = "## In practice, 2026\n\n## Recap\n\n" + text[:20]
    assert judge.practice_block(markdown(later)) is None


def test_minutes_count_words_code_exercises_and_guesses():
    cells = (markdown("word " * 260 + "\n\n```python\n" + "a = 1\n" * 12 + "```")
             + code("a = 1\n" * 12, 'ft.check("f", f)', "# comment\n\n" + ASK))
    assert judge.minutes(cells) == pytest.approx(2 + 1 + 1 + 3 / 12 + 5 + 1)
    assert judge.rounded(32.4) == 30 and judge.rounded(32.6) == 35
    (found,) = judge.stated_minutes(markdown("About 40 minutes."))
    assert "the formula gives 5" in found
