# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""Prose whose later words can only be known from its earlier ones: lists said again, lines copied,
questions about a text just given, sentences rewritten. It teaches a small model to copy."""

from text import capital, cast, fill, invented_name, listing, people
from world import (
    CATEGORIES,
    CATEGORY_OF,
    COLORS,
    COUNTRIES,
    DAYS,
    FOODS,
    JOBS,
    MEN,
    MONTHS,
    NUMBERS,
    OPPOSITES,
    PAST_TENSES,
    PETS,
    PLACES,
    SPOTS,
    THINGS,
    WOMEN,
    a,
)

WORDS = sorted(
    set(THINGS + PETS + COLORS + DAYS + MONTHS + NUMBERS + WOMEN + MEN)
    | {word for word, _ in CATEGORY_OF}
    | {word for pair in OPPOSITES for word in pair}
    | {row[0] for row in COUNTRIES}
)
PAST = dict(PAST_TENSES)
CITIES = [row[1] for row in COUNTRIES]


def name(rng):
    """Mostly a common first name, sometimes one that was never seen before."""
    return invented_name(rng) if rng.random() < 0.3 else rng.choice(WOMEN + MEN)


def names(rng, count):
    chosen = []
    while len(chosen) < count:
        candidate = name(rng)
        if candidate not in chosen:
            chosen.append(candidate)
    return chosen


def word_list(rng, smallest=2, largest=7):
    pool = rng.choice([WORDS, WORDS, THINGS + PETS, CATEGORIES["fruit"] + CATEGORIES["vegetable"]])
    words = rng.sample(pool, rng.randint(smallest, largest))
    if rng.random() < 0.3:
        words[rng.randrange(len(words))] = invented_name(rng)
    return words


def repeated_list(rng):
    words = word_list(rng, 3, 8)
    joined = rng.choice([", ", " ", " and "]).join(words)
    return fill(
        rng,
        "{$A said: $s. $B said it again: $s.|On the list of $A there was: $s. $B bought everything: $s.|$A "
        "put these things in a bag: $s. Then $B took them out: $s.|$A wrote \"$s\" on the wall. $B read "
        "\"$s\" and laughed.|$A wrote down: $s. $B copied it: $s. Then $A read it once more: $s.|The words "
        "are: $s. Say the words again: $s.|$s; $s; $s.}",
        s=joined, **cast(rng))


def word_game(rng):
    """First, last, next and reversed words of a list."""
    words = word_list(rng, 3, 6)
    i = rng.randrange(len(words) - 1)
    joined = rng.choice([", ", ", ", " "]).join(words)
    facts = [
        "{The first word is $first.|The list begins with $first.|First comes $first.|The first word of the "
        "list: $first.}",
        "{The last word is $last.|The list ends with $last.|Last comes $last.|The last word of the list: "
        "$last.}",
        "{After $x comes $y.|The word after $x is $y.|Right after $x there is $y.}",
        "{The word before $y is $x.|Before $y there is $x.}",
        "{In reverse order: $back.|Read backwards: $back.|The other way round it is: $back.}",
    ]
    slots = dict(first=words[0], last=words[-1], x=words[i], y=words[i + 1],
                 back=", ".join(reversed(words)), s=joined)
    if rng.random() < 0.35:
        asked = rng.choice([
            "{Write|Say|Find} the first word of the list: $s. {$A wrote|The answer was}: $first. That was right.",
            "{Write|Say|Find} the last word of the list: $s. {$A wrote|The answer was}: $last. That was right.",
            "{Write|Say} the words backwards: $s. {$A wrote|The answer was}: $back. That was right.",
        ])
        return fill(rng, asked, **slots, **cast(rng, 1))
    start = "{The list is: $s.|$A wrote these words: $s.|Here is a list: $s.|$A read out: $s.}"
    chosen = rng.sample(facts, rng.randint(1, 4))
    return " ".join(fill(rng, template, **slots, **cast(rng, 1)) for template in [start, *chosen])


def belongings(rng):
    """Who has what, and then back from the thing to the person."""
    owners = names(rng, rng.randint(2, 4))
    things = rng.sample(THINGS, len(owners))
    colors = [rng.choice(COLORS) for _ in owners]
    sentences = [
        fill(rng, "{$A has $c.|$A bought $c.|$A found $c.|$A carries $c.}", A=owner, c=a(f"{c} {t}"))
        for owner, t, c in zip(owners, things, colors, strict=True)
    ]
    for i in rng.sample(range(len(owners)), rng.randint(1, len(owners))):
        sentences.append(fill(
            rng,
            "{The $t belongs to $A.|The $t of $A is $c.|The person with the $t is $A.|The thing of $A is "
            "$ct.|Who has the $t? It is $A.|$A is the one with the $c $t.}",
            A=owners[i], t=things[i], c=colors[i], ct=a(f"{colors[i]} {things[i]}")))
    return " ".join(sentences)


# ---- a short text, and questions about it

EVENTS = [
    ("lost", "$A lost $ct $x"),
    ("found", "$A found $ct $x"),
    ("bought", "$A bought $ct at the $p"),
    ("hid", "$A hid $ct $x"),
    ("left", "$A left $ct in the $p"),
    ("saw", "$A saw $ct in the $p"),
    ("sold", "$A sold $ct at the $p"),
    ("painted", "$A painted $ct in the $p"),
]
FILLER = [
    "It was $w.", "The $z was asleep.", "There was a lot of noise.", "Many people were there.",
    "It was late.", "Nobody said a word.", "The sun was out.", "They had eaten $f.", "It was cold that day.",
]


def event(rng, person=None):
    """One thing that happened, with its parts: who, what, color, verb, where, when, and its sentence."""
    verb, template = rng.choice(EVENTS)
    thing, color, day = rng.choice(THINGS), rng.choice(COLORS), rng.choice(DAYS)
    spot, place = rng.choice(SPOTS), rng.choice(PLACES)
    who = person or name(rng)
    where = spot if "$x" in template else ("at" if "at the" in template else "in") + " the " + place
    body = fill(rng, template, A=who, ct=a(f"{color} {thing}"), x=spot, p=place)
    text = f"On {day}, {body}." if rng.random() < 0.5 else f"{body} on {day}."
    return {"who": who, "what": thing, "color": color, "verb": verb, "where": where, "when": day,
            "text": text}


def passage(rng, person=None):
    """A short text about one event, with harmless sentences around it, and the parts of the event."""
    happened = event(rng, person)
    sentences = [happened["text"]]
    for _ in range(rng.choice([0, 1, 1, 2])):
        extra = fill(rng, rng.choice(FILLER), w=rng.choice(["warm", "windy", "foggy", "early"]),
                     z=rng.choice(PETS), f=rng.choice(FOODS))
        sentences.insert(rng.choice([0, len(sentences)]), extra)
    return {**happened, "text": " ".join(sentences)}


BASE_FORM = {"lost": "lose", "found": "find", "bought": "buy", "hid": "hide", "left": "leave",
             "saw": "see", "sold": "sell", "painted": "paint"}


def question(part, happened):
    """The question about one part of an event, in prose."""
    who, verb, thing = happened["who"], happened["verb"], happened["what"]
    base = BASE_FORM[verb]
    return {
        "who": f"who {verb} the {thing}",
        "what": f"what did {who} {base}",
        "color": f"what color was the {thing}",
        "where": f"where did {who} {base} it",
        "when": f"on which day did {who} {base} it",
    }[part]


def reading(rng):
    """A text with a question about it, before or after the text; the answer stands in the text."""
    text = passage(rng)
    parts = rng.sample(["who", "what", "color", "where", "when"], rng.randint(1, 3))
    sentences = []
    if rng.random() < 0.5:
        part = parts[0]
        sentences.append(fill(
            rng,
            "{$q? {The text says|Read this text}: $t {The answer is|$n wrote|$n answered}: $r. That was right.|"
            "$n had to find out: $q? The text was this. $t So $n wrote: $r. It was easy.|"
            "{Read the text and say|Look in the text and find}: $q? $t {$n said|The answer}: $r. Well done.}",
            q=capital(question(part, text)), t=text["text"], r=text[part], n=rng.choice(WOMEN + MEN)))
        return " ".join(sentences)
    sentences.append(text["text"])
    for part in parts:
        sentences.append(fill(
            rng,
            "{$q? The answer is: $r.|$q? $n said: $r.|\"$q?\" \"$r,\" said $n.|$n asked: $q? The answer was: $r.}",
            q=capital(question(part, text)), r=text[part], n=rng.choice(WOMEN + MEN)))
    sentences.append(rng.choice(["That was all.", "It was all in the text.", "They closed the book."]))
    return " ".join(sentences)


# ---- forms

def form_fields(rng, person=None):
    """A filled-in form as a list of (field, value)."""
    fields = {
        "name": person or name(rng),
        "city": rng.choice(CITIES) if rng.random() < 0.7 else invented_name(rng),
        "age": str(rng.randint(10, 90)),
        "job": rng.choice(JOBS)[0],
        "day": rng.choice(DAYS),
        "item": rng.choice(COLORS) + " " + rng.choice(THINGS),
        "phone": "".join(rng.choice("0123456789") for _ in range(4)),
        "price": str(rng.randint(2, 99)),
        "friend": rng.choice(WOMEN + MEN),
        "month": rng.choice(MONTHS),
        "pet": rng.choice(PETS),
        "color": rng.choice(COLORS),
    }
    keys = rng.sample(sorted(fields), rng.randint(3, 6))
    return [(key, fields[key]) for key in keys]


def form_text(fields, separator="\n"):
    return separator.join(f"{capital(key)}: {value}" for key, value in fields)


def form(rng):
    fields = form_fields(rng)
    separator = rng.choice(["\n", "\n", "; ", ". "])
    text = form_text(fields, separator)
    key, value = rng.choice(fields)
    if rng.random() < 0.4:
        return fill(
            rng, "{$A needed the $k. The form was this.|What is the $k on this form?|Find the $k.}", k=key,
            **cast(rng, 1)) + "\n" + text + "\n" + fill(
            rng, "{The $k is: $v. That was it.|$A wrote: $v. That was right.|So the answer is: $v. Good.}",
            k=key, v=value, **cast(rng, 1))
    sentences = [fill(rng, "{The $k is $v.|The $k on the form is $v.|$A read the $k: $v.|For $k, the form says $v.}",
                      k=k, v=v, **cast(rng, 1)) for k, v in rng.sample(fields, rng.randint(1, 3))]
    return text + "\n" + " ".join(sentences)


# ---- lines copied, sentences rewritten

ACTIONS = """
go to the $p|eat some $f|drink cold water|run in the $p|see a $z|come to the $p|make $f|write a long letter
read a book|sing in the $p|swim in the lake|sleep on the bench|buy a $c $t|bring a $c $t|think about the $t
catch a $z|find a $c $t|lose the $t|break the $t|speak to $n|draw a $z|throw the $t|sit in the $p
stand near the $p|leave the $p|meet $n in the $p|hear a $z|tell $n the truth|sell the $c $t|pay for the $t
build a small house|win the game|hide the $t|ride a $z|drive to the $p|forget the $t|hold the $t|wear a $c coat
steal the $t|choose the $c $t|dig in the $p|walk to the $p|play with the $t|jump over the $t|cook some $f|help $n
look at the $z|open the $t|paint the $t|wash the $z|clean the $t|climb the $p wall|laugh at $n|call $n
ask $n a question|answer the letter|carry the $c $t|study in the $p|dance in the $p|close the $t|visit $n
listen to $n|work in the $p|talk to $n|plant a tree|pick a flower|push the $t|pull the $t|watch the $z|wait for $n
feed the $z|bake some $f|borrow the $t|count the coins|follow the $z|kick the $t|lift the $t|order some $f
pack the $c $t|repair the $t|touch the $z|use the $t|want the $c $t|grab the $t|drop the $t
""".replace("\n", "|").strip("|").split("|")


def action(rng, verb=None):
    """(subject, verb, rest) of a plain sentence in the present."""
    template = rng.choice(ACTIONS)
    while verb is not None and verb != template.split()[0]:
        template = rng.choice(ACTIONS)
    filled = fill(rng, template, p=rng.choice(PLACES), f=rng.choice(FOODS), z=rng.choice(PETS),
                  c=rng.choice(COLORS), t=rng.choice(THINGS), n=name(rng))
    verb, rest = filled[0].lower() + filled[1:].split(" ", 1)[0], filled.split(" ", 1)[1]
    for letter in "aeiou":
        rest = rest.replace(f" a {letter}", f" an {letter}")
        if rest.startswith(f"a {letter}"):
            rest = "an" + rest[1:]
    subject = rng.choice(["I", "We", "They", "You", "We", "They", "The children"])
    if rng.random() < 0.3:
        subject = " and ".join(person[0] for person in people(rng, 2))
    return subject, verb, rest


def in_sentence(subject):
    """The subject as it is written inside a sentence."""
    common = ("We", "They", "You", "The children")
    return subject[0].lower() + subject[1:] if subject in common else subject


def rewritings(subject, verb, rest):
    """The same sentence as a statement, in the past, as a question, denied, and in the future."""
    return {
        "present": f"{subject} {verb} {rest}.",
        "past": f"{subject} {PAST[verb]} {rest}.",
        "question": f"Do {in_sentence(subject)} {verb} {rest}?",
        "negative": f"{subject} do not {verb} {rest}.",
        "future": f"{subject} will {verb} {rest}.",
    }


def rewritten(rng):
    forms = rewritings(*action(rng))
    kind = rng.choice(["past", "past", "question", "negative", "future"])
    said = {"past": "in the past", "question": "as a question", "negative": "with not",
            "future": "about tomorrow"}[kind]
    return fill(
        rng,
        "{$A said: $s And the same $how: $r|$A wrote: $s Then $A wrote it $how: $r|The sentence is: $s "
        "{Say it|Write it|The same} $how: $r|Here is a sentence. $s Now it is put $how. $r|"
        "Put this sentence $how: $s $B wrote: $r} {That was right.|It was easy.|Then they wrote the next one.|"
        "And so on.}",
        s=forms["present"], r=forms[kind], how=said, **cast(rng))


def copied_line(rng):
    subject, verb, rest = action(rng)
    line = rewritings(subject, verb, rest)[rng.choice(["present", "past", "future"])]
    if rng.random() < 0.3:
        line = event(rng)["text"]
    return fill(
        rng,
        "{$A said: \"$s\" $B wrote down: \"$s\"|The note said: $s $A copied the note: $s|$A read aloud: $s $B "
        "said the same: $s Then both said: $s|\"$s\" {said|called} $A. \"What did $A say?\" asked $B. \"$s\"|"
        "The line is: $s And again: $s}",
        s=line, **cast(rng))


def guests(rng):
    """A list of names, told again in pieces."""
    people_ = names(rng, rng.randint(3, 5))
    dish = [rng.choice(FOODS) for _ in people_]
    text = f"The guests were {listing(people_)}. "
    text += " ".join(f"{p} brought {d}." for p, d in zip(people_, dish, strict=True))
    i = rng.randrange(len(people_))
    return text + " " + fill(
        rng, "{Who brought the $d? It was $n.|The one who brought $d was $n.|$n put the $d on the table.|So "
        "all of them came: $all.}", d=dish[i] if dish.count(dish[i]) == 1 else "food", n=people_[i],
        all=listing(people_))


# ---- questions before their text, for the later part of pretraining


def asked_owner(rng):
    """Who has a thing: the question comes before the text, as in many tasks."""
    owners = names(rng, rng.randint(2, 3))
    things = rng.sample(THINGS, len(owners))
    text = " ".join(
        fill(rng, "{$A has $c.|$A bought $c.|$A found $c.|$A carries $c.}", A=owner,
             c=a(rng.choice(COLORS) + " " + thing))
        for owner, thing in zip(owners, things, strict=True)
    )
    i = rng.randrange(len(owners))
    return fill(
        rng,
        "{{Who has the $t|Whose is the $t}? $s {The answer is|$B wrote|$B said}: $A. That was right.|$B asked "
        "about the $t. $s So the $t was with $A. That was all.|$s {Who has the $t|Whose is the $t}? It is $A, "
        "said $B.|$s The owner of the $t is $A. $B was pleased.}",
        t=things[i], s=text, A=owners[i], B=rng.choice(WOMEN + MEN))


def asked_list(rng):
    """The first or last word of a list, or all of it backwards; the question comes first."""
    words = word_list(rng, 2, 6)
    kind = rng.randrange(3)
    question = [
        "{Say the first word of the list|Which word comes first|What does the list begin with}",
        "{Say the last word of the list|Which word comes last|What does the list end with}",
        "{Say the list backwards|Turn the words round|Now the words in reverse order}",
    ][kind]
    answer = [words[0], words[-1], ", ".join(reversed(words))][kind]
    return fill(rng, question + "? $s. {$A wrote|The answer was|$A said}: $r. {That was right.|Good.|So it is.}",
                s=", ".join(words), r=answer, A=rng.choice(WOMEN + MEN))


def asked_form(rng):
    """One field of a form; the question comes first."""
    fields = form_fields(rng)
    key, value = rng.choice(fields)
    return (fill(rng, "{What is the $k|Find the $k|Read the $k}{ on this form|}?", k=key) + "\n"
            + form_text(fields) + "\n"
            + fill(rng, "{$A wrote|The answer was|$A said|It says}: $v. {That was right.|Good.|So it is.}",
                   v=value, A=rng.choice(WOMEN + MEN)))


def helpers(rng):
    """Users and assistants as plain words, so that a chat template is not made of unknown ones."""
    return fill(
        rng,
        "{Assistant $A works in the $p. $^sa helps everyone with $f.|User $A borrowed $ct from $B.|User questions are "
        "answered every $d. Assistant $A reads them.|Assistant and user talk about the $t. The assistant is $A.|User "
        "number $n is $A. The assistant at the $p is $B.|Assistant $A said to the user: \"Your $t is $x.\"}",
        **cast(rng), p=rng.choice(PLACES), f=rng.choice(FOODS), ct=a(rng.choice(COLORS) + " " + rng.choice(THINGS)),
        d=rng.choice(DAYS), t=rng.choice(THINGS), n=rng.choice(NUMBERS), x=rng.choice(SPOTS))
