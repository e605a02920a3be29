# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""Instruction tasks with exactly one right answer each, over the facts of `world`.

Train and validation draw on the same entities; test draws on entities (countries, animals, French nouns,
verbs, people, ...) that no train or validation record of any task asks about. Their facts are in the
pretraining corpus, so fine-tuning has to bring out knowledge and not to store it.
"""

import hashlib
from typing import NamedTuple

import copying
import facts
import prose
import world
from text import capital
from world import NUMBERS, a, agree, french_a, french_the


class Task(NamedTuple):
    name: str
    phrasings: tuple  # instructions; "$x" and "$y" are filled in
    make: object  # (rng, test) -> ({"x": ...}, input, output)


TASKS = {}


def task(name, *phrasings):
    def add(make):
        TASKS[name] = Task(name, phrasings, make)
        return make
    return add


def held_out(kind, key):
    """Whether an entity belongs to the test split: about one in four, fixed by its name alone."""
    return int(hashlib.sha256(f"{kind}:{key}".encode()).hexdigest(), 16) % 4 == 0


def part(kind, items, test, key=lambda item: item[0]):
    """The items of one side of the split."""
    return [item for item in items if held_out(kind, key(item)) == test]


def _table(kind, rows, column):
    """A maker for "what is COLUMN of the row": the first field is asked for, bare and with an article."""
    rows = [row for row in rows if row[column]]

    def make(rng, test):
        row = rng.choice(part(kind, rows, test))
        return {"x": row[0], "y": a(row[0])}, "", row[column]
    return make


# ---- knowledge

task("capital", "What is the capital of $x?", "Name the capital of $x.", "Which city is the capital of $x?",
     "$x: what is its capital?")(_table("country", world.COUNTRIES, 1))
task("continent", "On which continent is $x?", "Name the continent of $x.", "Which continent does $x belong to?",
     "$x: which continent?")(_table("country", world.COUNTRIES, 2))
task("language", "Which language do people speak in $x?", "Name the language of $x.",
     "What do people in $x speak?", "$x: which language?")(_table("country", world.COUNTRIES, 3))
task("animal_sound", "What sound does $y make?", "Which verb describes the sound of $y?",
     "What does $y do when it is loud?")(_table("animal", world.ANIMALS, 1))
task("animal_baby", "What is a baby $x called?", "Name the young of $y.", "What do we call the baby of $y?")(
    _table("animal", world.ANIMALS, 2))
task("animal_home", "Where does $y live?", "Name the home of $y.", "What is the home of $y?")(
    _table("animal", world.ANIMALS, 3))
task("animal_class", "What kind of animal is $y?", "Is $y a mammal, a bird or something else?",
     "Name the class of animals that $y belongs to.")(_table("animal", world.ANIMALS, 4))
task("plural", "What is the plural of $x?", "Give the plural form of $x.", "One $x, many what?",
     "Write the word $x in the plural.")(_table("noun", world.PLURALS, 1))
task("past_tense", "What is the past tense of $x?", "Put the verb $x in the past.", "Give the past form of $x.",
     "Today I $x. What did I do yesterday?")(_table("verb", world.PAST_TENSES, 1))
task("category", "What kind of thing is $x?", "Name the category of $x.", "Which group does the word $x belong to?")(
    _table("word", world.CATEGORY_OF, 1))
task("color", "What color is the $x?", "Name the usual color of the $x.", "Which color does the $x have?")(
    _table("thing", world.COLORS_OF, 1))
task("material", "What is the $x made of?", "Name the material of the $x.", "Which material is used for the $x?")(
    _table("object", world.MATERIALS, 1))
task("tool", "Which tool do you need to $x?", "Name a thing that people use to $x.", "What helps you to $x?")(
    _table("use", [row[::-1] for row in world.TOOLS], 1))
task("workplace", "Where does $y work?", "Name the workplace of $y.", "What is the usual workplace of $y?")(
    _table("job", world.JOBS, 1))
task("job", "Who $x?", "Name the job of a person who $x.", "What do we call someone who $x?")(
    _table("job", [(row[2], row[0]) for row in world.JOBS], 1))
task("french_word", "What is the French word for $x?", "Translate the word $x into French.", "Say $x in French.")(
    _table("french", [row for row in world.FRENCH_NOUNS if row[0] in facts.COUNTABLE], 1))


@task("opposite", "What is the opposite of $x?", "Give the opposite of $x.",
      "Name a word that means the opposite of $x.", "Not $x, but what?")
def _opposite(rng, test):
    x, y = rng.sample(rng.choice(part("opposite", world.OPPOSITES, test)), 2)
    return {"x": x}, "", y


@task("addition", "What is $x plus $y?", "Add $x and $y.", "What is the sum of $x and $y?")
def _addition(rng, test):
    pairs = [(x, y) for x in range(11) for y in range(11) if not facts.held_out_sum(x, y)]
    x, y = rng.choice(part("sum", pairs, test, key=lambda pair: sorted(pair)))
    return {"x": NUMBERS[x], "y": NUMBERS[y]}, "", NUMBERS[x + y]


# ---- translation of given phrases: the nouns of the test phrases are held out


def _french_phrase(rng, test):
    nouns = part("french", world.FRENCH_NOUNS, test)
    countable = [row[0] for row in nouns if row[0] in facts.COUNTABLE]
    first, second = rng.sample([row[0] for row in nouns], 2)
    thing, color = rng.choice(countable), rng.choice(world.FRENCH_COLORS)
    verb = rng.choice(world.FRENCH_VERBS)
    adjective = rng.choice(world.FRENCH_COLORS + world.FRENCH_ADJECTIVES)
    return rng.choice([
        (f"the {first}", french_the(first)),
        (f"the {color[0]} {thing}", f"{french_the(thing)} {agree(color, thing)}"),
        (f"{verb[0]} {a(thing)}", f"{verb[1]} {french_a(thing)}"),
        (f"{verb[0]} the {first}", f"{verb[1]} {french_the(first)}"),
        (f"the {first} is {adjective[0]}", f"{french_the(first)} est {agree(adjective, first)}"),
        (f"the {first} and the {second}", f"{french_the(first)} et {french_the(second)}"),
    ])


@task("translation", "Translate into French.", "Say this in French.", "Write the French for these words.")
def _translation(rng, test):
    english, french = _french_phrase(rng, test)
    return {}, english, french


@task("to_english", "Translate into English.", "Say this in English.", "Write the English for these words.")
def _to_english(rng, test):
    english, french = _french_phrase(rng, test)
    return {}, french, english


# ---- answers from a given text: its people (and things) are held out


def person(rng, test):
    return rng.choice(part("person", world.WOMEN + world.MEN, test, key=str))


def _passage(rng, test):
    while True:
        text = copying.passage(rng, person(rng, test))
        if held_out("carried", text["what"]) == test:
            return text


@task("extraction", "$q?")
def _extraction(rng, test):
    """Who, what, what colour, where or when, in a short text."""
    text = _passage(rng, test)
    part_ = rng.choice(["who", "who", "what", "color", "where", "when"])
    return {"q": capital(copying.question(part_, text))}, text["text"], text[part_]


@task("who", "Who is this text about?", "Name the person in the text.", "Find the name in the text.")
def _who(rng, test):
    text = _passage(rng, test)
    return {}, text["text"], text["who"]


@task("form_field", "What is the $x on this form?", "Find the $x.", "Read the form and give the $x.")
def _form_field(rng, test):
    fields = dict(copying.form_fields(rng, person(rng, test)))
    if "friend" in fields:
        fields["friend"] = person(rng, test)
    fields.setdefault("name", person(rng, test))
    key, value = rng.choice(sorted(fields.items()))
    return {"x": key}, copying.form_text(list(fields.items())), value


@task("owner", "Who has the $x?", "Whose is the $x?", "Name the owner of the $x.")
def _owner(rng, test):
    owners = rng.sample(part("person", world.WOMEN + world.MEN, test, key=str), rng.randint(2, 3))
    things = rng.sample(world.THINGS, len(owners))
    text = " ".join(f"{o} {rng.choice(['has', 'bought', 'found', 'carries'])} {a(rng.choice(world.COLORS) + ' ' + t)}."
                    for o, t in zip(owners, things, strict=True))
    i = rng.randrange(len(owners))
    return {"x": things[i]}, text, owners[i]


def _words(rng, test, smallest, largest):
    return rng.sample(part("listed", copying.WORDS, test, key=str), rng.randint(smallest, largest))


@task("first_word", "Write the first word of the list.", "Which word comes first?", "How does the list begin?")
def _first_word(rng, test):
    words = _words(rng, test, 3, 6)
    return {}, ", ".join(words), words[0]


@task("last_word", "Write the last word of the list.", "Which word comes last?", "How does the list end?")
def _last_word(rng, test):
    words = _words(rng, test, 3, 6)
    return {}, ", ".join(words), words[-1]


@task("reverse", "Write the words in reverse order.", "Say the list backwards.")
def _reverse(rng, test):
    words = _words(rng, test, 2, 4)
    return {}, ", ".join(words), ", ".join(reversed(words))


# ---- rewriting: the verbs of the test sentences are held out

ACTION_VERBS = sorted({template.split()[0] for template in copying.ACTIONS})


def _sentence(rng, test):
    verb = rng.choice(part("verb", ACTION_VERBS, test, key=str))
    return copying.rewritings(*copying.action(rng, verb))


@task("to_past", "Rewrite the sentence in the past tense.", "Say this in the past.", "Put the sentence in the past.")
def _to_past(rng, test):
    forms = _sentence(rng, test)
    return {}, forms["present"], forms["past"]


@task("to_question", "Turn the sentence into a question.", "Ask this as a question.", "Make a question of it.")
def _to_question(rng, test):
    forms = _sentence(rng, test)
    return {}, forms["present"], forms["question"]


@task("to_negative", "Rewrite the sentence with not.", "Say the contrary, with not.", "Deny the sentence.")
def _to_negative(rng, test):
    forms = _sentence(rng, test)
    return {}, forms["present"], forms["negative"]


HELD_OUT_SUBJECTS = ("film", "hotel", "phone")


@task("sentiment", "Is this review positive or negative?", "Classify the review as positive or negative.",
      "What is the feeling of this review?")
def _sentiment(rng, test):
    positive = rng.random() < 0.5
    while True:
        text = prose.review(rng, positive)
        if [any(f"The {subject} " in text or f"the {subject} " in text for subject in group)
                for group in (HELD_OUT_SUBJECTS, set(world.REVIEW_WORDS) - set(HELD_OUT_SUBJECTS))] == [test, not test]:
            return {}, text, "positive" if positive else "negative"


def record(rng, name, test=False):
    """One record of a task, from one side of the split."""
    spec = TASKS[name]
    slots, text, answer = spec.make(rng, test)
    instruction = rng.choice(spec.phrasings)
    for slot, value in slots.items():
        instruction = instruction.replace("$" + slot, value)
    return {"instruction": capital(instruction), "input": text, "output": answer, "task": name}


def distinct(rng, name, count, test=False, taken=()):
    """Up to `count` records of a task, no (instruction, input) twice nor in `taken`."""
    seen, records = set(taken), []
    for _ in range(count * 30):
        if len(records) == count:
            break
        candidate = record(rng, name, test)
        key = candidate["instruction"], candidate["input"]
        if key not in seen:
            seen.add(key)
            records.append(candidate)
    return records
