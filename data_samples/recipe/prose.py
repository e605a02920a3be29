# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""General prose: stories, diaries, weather, places, reviews, instructions, talk."""

from stories import PLOTS
from text import cast, fill
from world import (
    ANIMALS,
    CATEGORIES,
    COLORS,
    COUNTRIES,
    DAYS,
    FOODS,
    MONTHS,
    PETS,
    PLACES,
    REVIEW_WORDS,
    ROOMS,
    SPOTS,
    THINGS,
    TOOLS,
    WEATHER,
    a,
)

SOUND = {animal[0]: animal[1] for animal in ANIMALS}


def story(rng):
    """A short story about $A (and $B) after one of the plots."""
    slots = cast(rng)
    for names, words in (("cd", COLORS), ("tu", THINGS), ("fe", FOODS), ("pq", PLACES), ("xy", SPOTS)):
        slots.update(zip(names, rng.sample(words, 2), strict=True))
    slots["z"] = rng.choice(PETS)
    slots["v"] = SOUND[slots["z"]]
    slots.update(ac=a(slots["c"]), ad=a(slots["d"]), at=a(slots["t"]), K=rng.choice(COUNTRIES)[0])
    slots["opening"] = fill(
        rng,
        "{One day|One morning|One afternoon|On a $w day|Last week|After school|On $d|In $m}",
        w=rng.choice(WEATHER), d=rng.choice(DAYS), m=rng.choice(MONTHS),
    )
    slots["intro"] = fill(
        rng,
        "{There was once a $ga named $A.|$A was a {young|kind|brave|happy|quiet|clever|shy|busy|"
        "cheerful|curious} $ga.|A $ga called $A lived near the $p.|$A lived in {a small|a big|an old|"
        "a new|a white|a quiet} {house|village|town|city}.|}",
        A=slots["A"], ga=slots["ga"], p=rng.choice(PLACES),
    )
    sentences = [fill(rng, template, **slots) for template in rng.choice(PLOTS)]
    return " ".join(sentence for sentence in sentences if sentence)


def weather(rng):
    return fill(
        rng,
        "{Today|This morning|On $d} it {is|will be} $w in $c. {The wind comes from the "
        "{north|south|east|west}.|There are {many|few} clouds in the sky.} {Tomorrow it will be $x.|"
        "The night will be cold and dark.|People should take {an umbrella|a coat|a hat}.|"
        "The sun rises at {five|six|seven}.}",
        d=rng.choice(DAYS), w=rng.choice(WEATHER), x=rng.choice(WEATHER), c=rng.choice(COUNTRIES)[1],
    )


def diary(rng):
    return fill(
        rng,
        "{Dear diary, today|It is $d. Today|On $d} I {went to the $p|stayed at home|worked in the "
        "garden|met $A}. {I saw a $z.|We ate $f.|I found $ct.|The weather was bad.} {Then|After that|"
        "In the afternoon} I {walked to the $q|read a book|played with the $z|helped my {mother|"
        "father}}. {I was {happy|tired|sad|angry}.|It was a {good|bad|long} day.} {Tomorrow I will "
        "{sleep|go to school|visit $A}.|}",
        **cast(rng, 1), d=rng.choice(DAYS), f=rng.choice(FOODS), p=rng.choice(PLACES),
        q=rng.choice(PLACES), z=rng.choice(PETS), ct=a(rng.choice(COLORS) + " " + rng.choice(THINGS)),
    )


def letter(rng):
    return fill(
        rng,
        "Dear $A, {thank you for the $c $t.|how are you? I am well.|I hope you are well.} {I am now in "
        "$k, and it is $w here.|We live in $k now.|Last week I was in $k.} {Every day I go to the $p.|"
        "Yesterday I ate $f and saw a $z.|On $d we will go to the $p.} {The $c $t is on my table.|Please "
        "write to me soon.|I will come home in $m.} {With love|Your friend|Many greetings}, $B.",
        **cast(rng), c=rng.choice(COLORS), t=rng.choice(THINGS), k=rng.choice(COUNTRIES)[1],
        w=rng.choice(WEATHER), p=rng.choice(PLACES), f=rng.choice(FOODS), z=rng.choice(PETS),
        d=rng.choice(DAYS), m=rng.choice(MONTHS),
    )


_PLACES = [
    "The $room is {small|big|cold|warm|dark|quiet}. {In the middle there is a $c $u.|There is a $u near "
    "the window.} {On the $u lies a $d $t.|A $t stands $x.|The walls are $d.} {A $z sleeps $x.|Nobody "
    "is there.}",
    "The town has {a big|an old|a new|a small} $b {and a $e|near the river}. {In the street there are "
    "many shops.|People walk in the park every day.} {An old $tree stands in front of the $b.|In spring "
    "you can see $flower flowers.} {The houses are $c and $d.|At night the town is quiet.}",
    "$k is {a big|a beautiful|a busy|an old} city. {Many people live there.|It has a famous $b.} {There "
    "are cars and buses in the streets.|You can visit the $b and the $e.} {The streets are {full|empty} "
    "at night.|In winter it is cold.}",
]


def place(rng):
    b, e = rng.sample(CATEGORIES["building"], 2)
    return fill(
        rng, rng.choice(_PLACES), b=b, e=e, room=rng.choice(ROOMS), c=rng.choice(COLORS),
        d=rng.choice(COLORS), u=rng.choice("chair table bed sofa desk shelf bench".split()),
        t=rng.choice(THINGS), x=rng.choice(SPOTS), z=rng.choice(PETS), k=rng.choice(COUNTRIES)[1],
        tree=rng.choice(CATEGORIES["tree"]), flower=rng.choice(CATEGORIES["flower"]),
    )


def review(rng, positive):
    """A customer's review of two things; positive or negative throughout."""
    subjects = rng.sample(sorted(REVIEW_WORDS), 2)
    first, second = (rng.choice(REVIEW_WORDS[s][0 if positive else 1].split()) for s in subjects)
    ending = (
        "{I loved it.|I will come again.|I was very happy.|It made us smile.|I thank them for a great "
        "time.|}"
        if positive
        else "{I hated it.|I will never come again.|I was very angry.|I want my money back.|What a "
        "waste of time.|}"
    )
    return fill(
        rng,
        "{We|I} {went there|tried it} {last week|on $day|yesterday}. The $a was $x{ and the $b was $y|. "
        "The $b was $y}. " + ending,
        a=subjects[0], b=subjects[1], x=first, y=second, day=rng.choice(DAYS),
    )


def judged_review(rng):
    positive = rng.random() < 0.5
    text = review(rng, positive)
    if rng.random() < 0.5:
        return text
    word = "positive" if positive else "negative"
    return text + fill(
        rng,
        " {This review is $w|That is a $w review|The feeling of this review is $w|They read the review "
        "and called it $w|It is a $w review}, {because the words are $g.|and the boss was $h.|as anyone "
        "can see.}",
        w=word, g="good" if positive else "bad", h="happy" if positive else "sad",
    ).replace("they", "They", 1)


def howto(rng):
    tool, use = rng.choice(TOOLS)
    return fill(
        rng,
        "{To make $f, you need {flour|eggs|milk} and {sugar|salt|butter}. First, {wash your hands|heat the "
        "oven}. Then {mix everything in a bowl|cut it into small pieces}. {Wait for ten minutes.|Cook it "
        "for half an hour.} {At the end|Finally}, {put it on a plate|let it cool|share it with your "
        "friends}.|If you want to $u, {first find|take|use} {a good|a clean|a new} $t. {Be careful.|Do it "
        "slowly.} {When you are done|After that}, put the $t {back in its place|$x}.}",
        f=rng.choice(FOODS), t=tool, u=use, x=rng.choice(SPOTS),
    )


def talk(rng):
    return fill(
        rng,
        "{\"{Where is my $t|Have you seen my $t}?\" asked $A. \"It is $x,\" said $B. {\"Thank you,\" said "
        "$A.|$A looked $x and found the $t.}|\"{Will you come|Do you want to go} to the $p on $d?\" asked "
        "$A. {\"Yes, I will come to the $p,\"|\"No, I have to work on $d,\"|\"I would love to,\"} said $B. "
        "{\"See you on $d then,\" said $A.|\"That is a pity,\" said $A.|}|\"I am {hungry|tired|cold|sad},\" "
        "said $A. \"{Sit down and rest|Take some $f|Here is $ct},\" said $B. {$A smiled.|Then $A felt "
        "better.}|\"{Good morning|Hello|Good evening}, $B,\" said $A. \"{How are you|How is your $z}?\" "
        "\"{Very well|Not so good|Better than last week},\" said $B.}",
        **cast(rng), t=rng.choice(THINGS), ct=a(rng.choice(COLORS) + " coat"), f=rng.choice(FOODS),
        p=rng.choice(PLACES), d=rng.choice(DAYS), x=rng.choice(SPOTS), z=rng.choice(PETS),
    )
