# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""Prose that states the facts of `world`, each in several wordings."""

from text import capital, cast, fill
from world import (
    ANIMALS,
    CATEGORIES,
    CATEGORY_OF,
    COLORS,
    COLORS_OF,
    COUNTRIES,
    DAYS,
    FRENCH_ADJECTIVES,
    FRENCH_COLORS,
    FRENCH_MASS,
    FRENCH_NOUNS,
    FRENCH_VERBS,
    JOBS,
    MATERIALS,
    MEN,
    MONTHS,
    NUMBERS,
    OPPOSITES,
    PAST_TENSES,
    PLURALS,
    THINGS,
    TOOLS,
    WOMEN,
    a,
    agree,
    french_a,
    french_the,
    plural,
)


def animal(rng):
    name, sound, baby, home, kind, legs, food, skill = rng.choice(ANIMALS)
    many = plural(name)
    templates = [
        "{$^an is a kind of $k.|$^an is $ak.|$^ns are $ks.|The $n is $ak.}",
        "{A baby $n is called $ab.|The baby of $an is $ab.|$^ab is a baby $n.|A young $n is $ab.|"
        "The young of $an: $ab.}",
        "{$^an lives in the $h.|The home of $an is the $h.|You can find $ns in the $h.|$^ns live in "
        "the $h.}",
        "{$^ns eat $f.|$^an eats $f.|$^an likes to eat $f.|The food of the $n is $f.}",
        "{$^an can $s.|$^ns can $s.|$^ns are known because they can $s.}",
    ]
    if sound:
        templates.append("{$^an $v.|The $n $v loudly.|You know it is $an when it $v.|The sound it "
                         "makes: it $v.}")
    if legs:
        templates.append("{$^an has $l legs.|$^ns have $l legs.|The number of legs of $an is $l.}"
                         if legs != "no" else "{$^an has no legs.|$^ns have no legs.}")
    chosen = rng.sample(templates, rng.randint(2, len(templates)))
    return " ".join(
        fill(rng, template, n=name, an=a(name), ns=many, v=sound, ab=a(baby), h=home, k=kind,
             ak=a(kind), ks="fish" if kind == "fish" else kind + "s", l=legs, f=food, s=skill)
        for template in chosen
    )


def country(rng):
    name, city, continent, language = rng.choice(COUNTRIES)
    templates = [
        "{The capital of $c is $k.|$k is the capital of $c.|$k is the capital city of $c.|$c has a "
        "capital called $k.|The government of $c sits in $k, the capital.}",
        "{$c is in $o.|$c is a country in $o.|You can find $c on the map of $o.|In $o there is a country "
        "named $c.|$c lies on the continent of $o.}",
        "{People in $c speak $l.|The language of $c is $l.|In $c, they speak $l.|$l is spoken in $c.}",
        "{$n lives in $k, $c.|$n went to $c and stayed in $k.|The train from $k goes across $c.|Many "
        "people visit $k when they go to $c.}",
    ]
    return " ".join(
        fill(rng, template, c=name, k=city, o=continent, l=language, n=rng.choice(WOMEN + MEN))
        for template in rng.sample(templates, rng.randint(1, 4))
    )


def opposite(rng):
    sentences = []
    for pair in rng.sample(OPPOSITES, rng.randint(1, 4)):
        x, y = rng.sample(pair, 2)
        sentences.append(fill(
            rng,
            "{The opposite of $x is $y.|$^x is the opposite of $y.|$^x and $y are opposites.|If it is "
            "not $x, it is $y.|Not $x but $y.|One word is $x, and the opposite word is $y.|$^x means "
            "not $y.}", x=x, y=y))
    return " ".join(sentences)


def plurals(rng):
    sentences = []
    for one, many in rng.sample(PLURALS, rng.randint(1, 4)):
        sentences.append(fill(
            rng,
            "{One $s, two $p.|One $s and many $p.|The plural of $s is $p.|If you have more than one $s, "
            "you have $p.|First there was one $s, then there were three $p.|I saw $as. $n saw five $p.}",
            s=one, p=many, n=rng.choice(WOMEN + MEN), **{"as": a(one)}))
    return " ".join(sentences)


def past(rng):
    sentences = []
    for now, then in rng.sample(PAST_TENSES, rng.randint(1, 4)):
        sentences.append(fill(
            rng,
            "{Today I $x. Yesterday I $y.|I $x every day, and yesterday I $y too.|The past tense of $x is "
            "$y.|Now they $x. Last week they $y.|We $x today, but $n $y yesterday.|The past of $x is $y.}",
            x=now, y=then, n=rng.choice(WOMEN + MEN)))
    return " ".join(sentences)


def category(rng):
    sentences = []
    for word, kind in rng.sample(CATEGORY_OF, rng.randint(1, 4)):
        other = rng.choice([w for w in CATEGORIES[kind] if w != word])
        article = word if kind in ("drink", "metal", "sport") or word == "pliers" else a(word)
        sentences.append(fill(
            rng,
            "{$^aw is $ac.|$^aw is a kind of $c.|$^w and $o are both $cs.|Some $cs are $w and $o.|The word "
            "$w names $ac.|Look at this $c. It is $aw.}",
            w=word, aw=article, c=kind, ac=a(kind), cs=plural(kind), o=other))
    return " ".join(sentences)


def color(rng):
    sentences = []
    for thing, c in rng.sample(COLORS_OF, rng.randint(1, 4)):
        other = rng.choice([x for x in COLORS if x != c])
        sentences.append(fill(
            rng,
            "{The usual color of the $t is $c.|The color of the $t is $c.|The $t is $c, not $d.|As $c as "
            "the $t.|Her dress was $c like the $t.|The $t has a $c color.}", t=thing, c=c, d=other))
    return " ".join(sentences)


WHERE = {"ship": "on a ship", "hills": "on the hills", "farm": "on a farm", "space": "in space",
         "school": "at school", "airport": "at the airport", "bus station": "at the bus station"}


def job(rng):
    name, place, does = rng.choice(JOBS)
    where = WHERE.get(place, "in the " + place)
    templates = [
        "{$^aj $d.|The $j $d.|The work of $aj: $aj $d.}",
        "{$^aj works $p.|You can meet $aj $p.|The $j works $p.|The workplace of $aj is the $w.}",
        "{$A is $aj. $^sa works $p.|$A works $p as $aj.|$A is $aj. Every day $sa $d.|The $wa who $d is "
        "$aj.|A person who $d is called $aj.}",
    ]
    return " ".join(
        fill(rng, template, **cast(rng, 1), j=name, aj=a(name), d=does, p=where, w=place)
        for template in rng.sample(templates, rng.randint(1, 3))
    )


def tool(rng):
    sentences = []
    for thing, use in rng.sample(TOOLS, rng.randint(1, 3)):
        article = thing if thing in ("scissors", "soap") else a(thing)
        sentences.append(fill(
            rng, "{You use $t to $u.|We use $t to $u.|$n needs $t to $u.|To $u, you need $t.|$n took $t "
            "to $u.}", t=article, u=use, n=rng.choice(WOMEN + MEN)))
    return " ".join(sentences)


UNCOUNTED = ("paper", "cheese", "bread", "wine", "jeans", "butter")


def material(rng):
    sentences = []
    for thing, m in rng.sample(MATERIALS, rng.randint(1, 3)):
        sentences.append(fill(
            rng, "{The $t is made of $m.|$^at is made of $m.|They made the $t of $m.|To make $at, you need "
            "$m.|$^m is used to make $at.}", t=thing, at=thing if thing in UNCOUNTED else a(thing), m=m)
            .replace("jeans is", "jeans are"))
    return " ".join(sentences)


def sequence(rng):
    names = rng.choice([DAYS, MONTHS, NUMBERS])
    size = len(names)
    i = rng.randrange(size if names is not NUMBERS else size - 3)
    x, y, z = names[i], names[(i + 1) % size], names[(i + 2) % size]
    if names is NUMBERS:
        return fill(rng, "{$x, $y, $z.|After $x comes $y.|The number after $x is $y.|They counted: $x, $y, "
                    "$z.|The number before $y is $x.}", x=x, y=y, z=z)
    unit = "day" if names is DAYS else "month"
    return fill(rng, "{After $x comes $y.|The $u after $x is $y.|Before $y comes $x.|The $u before $y is "
                "$x.|$x, $y, $z.|This $u is $x, and the next one is $y.}", x=x, y=y, z=z, u=unit)


def held_out_sum(x, y):
    """Every tenth sum or so is never shown in the corpus."""
    return (min(x, y) * 7 + max(x, y) * 3) % 11 == 5


def arithmetic(rng):
    """Sums and differences in words, numbers up to ten."""
    sentences = []
    while not sentences or rng.random() < 0.7:
        x, y = rng.randint(0, 10), rng.randint(0, 10)
        if held_out_sum(x, y):
            continue
        slots = dict(a=NUMBERS[x], b=NUMBERS[y], c=NUMBERS[x + y], n=rng.choice(WOMEN + MEN),
                     t=plural(rng.choice(THINGS)))
        if rng.random() < 0.8:
            sentences.append(fill(
                rng, "{$a plus $b is $c.|$a plus $b is $c.|$a and $b make $c.|If you add $a and $b, you get "
                "$c.|The sum of $a and $b is $c.|$n had $a $t and got $b more. Now there are $c $t.}",
                **slots))
        else:
            sentences.append(fill(
                rng, "{$c minus $b is $a.|Take $b from $c and you have $a.|$n had $c $t and gave away $b. "
                "Now there are $a $t.}", **slots))
    return " ".join(sentences)


# ---- French

COUNTABLE = [row[0] for row in FRENCH_NOUNS if row[0] not in FRENCH_MASS]
NOUNS = [row[0] for row in FRENCH_NOUNS]


def noun_phrase(rng, definite):
    """(English, French): "the red house", "la maison rouge"."""
    noun = rng.choice(NOUNS if definite else COUNTABLE)
    french = french_the(noun) if definite else french_a(noun)
    if rng.random() < 0.3:
        return ("the " + noun if definite else a(noun)), french
    c = rng.choice(FRENCH_COLORS)
    english = c[0] + " " + noun
    return ("the " + english if definite else a(english)), french + " " + agree(c, noun)


def phrase(rng):
    """(English, French): a noun phrase, verb and noun phrase, "the X is Y", or two noun phrases."""
    kind = rng.randrange(5)
    if kind < 2:
        return noun_phrase(rng, rng.random() < 0.7)
    if kind == 2:
        verb = rng.choice(FRENCH_VERBS)
        english, french = noun_phrase(rng, rng.random() < 0.4)
        return verb[0] + " " + english, verb[1] + " " + french
    if kind == 3:
        noun = rng.choice(NOUNS)
        adjective = rng.choice(FRENCH_COLORS + FRENCH_ADJECTIVES)
        return f"the {noun} is {adjective[0]}", f"{french_the(noun)} est {agree(adjective, noun)}"
    first, second = noun_phrase(rng, True), noun_phrase(rng, True)
    return first[0] + " and " + second[0], first[1] + " et " + second[1]


def french(rng):
    sentences = []
    for _ in range(rng.randint(2, 5)):
        if rng.random() < 0.35:
            noun = rng.choice(COUNTABLE)
            word = next(row[1] for row in FRENCH_NOUNS if row[0] == noun)
            sentences.append(fill(
                rng, "{The French word for $e is $f.|In French, $ae is $x.|In French, the $e is $y.|$^f means "
                "$e in French.|$^y: the $e.}",
                e=noun, ae=a(noun), f=word, x=french_a(noun), y=french_the(noun)))
        else:
            english, translated = phrase(rng)
            sentences.append(fill(
                rng, "{In French, you say $e like this: $f.|$^f means $e.|$^e is $f in French.|In Paris they "
                "say: $f. In London they say: $e.|$n said: $e. Her friend said it in French: $f.|$n read the "
                "French words: $f. In English, that is: $e.|English: $e. French: $f.|French: $f. English: $e.|"
                "The teacher wrote \"$e\" and the class wrote \"$f\".}",
                e=english, f=translated, n=rng.choice(WOMEN)))
    return " ".join(sentences)


# ---- the same facts as questions and answers inside prose

def _question(rng):
    """(noun phrase, answer, question) about one fact."""
    kind = rng.randrange(17)
    if kind == 0:
        x, y = rng.sample(rng.choice(OPPOSITES), 2)
        return ("{the opposite of $|a word that means the opposite of $}", x, y,
                "{what is the opposite of $|which word is the opposite of $}")
    if kind == 1:
        x, y = rng.choice(PLURALS)
        return "the plural of $", x, y, "{what is the plural of $|what do you call many of $}"
    if kind == 2:
        x, y = rng.choice(PAST_TENSES)
        return "the past tense of $", x, y, "{what is the past tense of $|what is the past of $}"
    if kind in (3, 4, 5):
        row = rng.choice(COUNTRIES)
        forms = [("the capital of $", "what is the capital of $"),
                 ("the continent of $", "{on which continent is $|where is $}"),
                 ("the language of $", "what do they speak in $")]
        about, question = forms[kind - 3]
        return about, row[0], row[kind - 2], question
    if kind in (6, 7, 8, 9):
        row = rng.choice(ANIMALS)
        forms = [("the sound of $", 1, "{what does $ do when it is loud|what sound does $ make}"),
                 ("the baby of $", 2, "{what is the baby of $|what is the young of $}"),
                 ("the home of $", 3, "{where is the home of $|where does $ live}"),
                 ("the kind of animal that $ is", 4, "what kind of animal is $"),
                 ("the number of legs of $", 5, "how many legs does $ have")]
        about, field, question = rng.choice([form for form in forms if row[form[1]]])
        return about, a(row[0]), row[field], question
    if kind == 10:
        word, c = rng.choice(CATEGORY_OF)
        return "the kind of thing that $ is", word, c, "what kind of thing is $"
    if kind == 11:
        thing, c = rng.choice(COLORS_OF)
        return "the color of the $", thing, c, "what is the color of the $"
    if kind == 12:
        thing, use = rng.choice(TOOLS)
        return "a thing to $", use, thing, "what do you need to $"
    if kind == 13:
        thing, m = rng.choice(MATERIALS)
        return "what the $ is made of", thing, m, "what is the $ made of"
    if kind == 14:
        row = rng.choice(JOBS)
        if rng.random() < 0.5:
            return "the workplace of $", a(row[0]), row[1], "where does $ work"
        return "the person who $", row[2], row[0], "who $"
    if kind == 15:
        while True:
            x, y = rng.randint(0, 10), rng.randint(0, 10)
            if not held_out_sum(x, y):
                return ("the sum of $", NUMBERS[x] + " and " + NUMBERS[y], NUMBERS[x + y],
                        "what is $")
    row = rng.choice(FRENCH_NOUNS)
    return "the French word for $", row[0], row[1], "what is the French word for $"


def quiz(rng):
    """Facts asked and answered in a story of a lesson. No document ends right after an answer."""
    sentences = []
    for _ in range(rng.randint(1, 3)):
        about, thing, answer, question = _question(rng)
        about = fill(rng, about.replace("$", "THING")).replace("THING", thing)
        question = fill(rng, question.replace("$", "THING")).replace("THING", thing)
        about = about[0].lower() + about[1:]
        sentences.append(fill(
            rng, "{$A asked $B about $about. {$B thought for a moment and said|$B knew it|$B smiled and "
            "said|The answer was}: $answer.|$question? $A asked in the lesson. $B {said|wrote|answered}: "
            "$answer.|In the quiz there was a question about $about. {The right answer was|$B wrote|$A "
            "said}: $answer.|$A did not know $about. $B {told $oa|helped}: $answer.|Lesson {one|two|three|"
            "four}: $question? {Answer of $A|$A}: $answer.|$A wanted to know $about, and the teacher wrote "
            "on the board: $answer.}",
            about=about, question=question, answer=answer, **cast(rng)))
    sentences.append(fill(
        rng, "{That was right.|Everyone was happy with that.|Then the lesson was over.|The teacher was "
        "pleased.|They went on to the next page.|It was a good lesson.|\"Well done,\" said the teacher.}"))
    return " ".join(capital(sentence) for sentence in sentences)
