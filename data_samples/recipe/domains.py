# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""Four domains with a language of their own: clinic notes, contracts, finance headlines, Python.

The base sees a little of each style, about other drugs and companies than those of the domain corpora
in `data_samples`, so that domain adaptation has something to learn.
"""

from text import fill, people
from world import COMPANIES, COUNTRIES, DRUGS, NUMBERS

BASE_DRUGS = [
    ("aspenol", "fever", "tablet", "once"), ("bexadrine", "cough", "syrup", "twice"),
    ("moritan", "asthma", "spray", "once"), ("pexolin", "headache", "tablet", "three times"),
    ("ralvimab", "gout", "injection", "once"), ("sedoral", "insomnia", "tablet", "once"),
    ("tiximol", "rash", "cream", "twice"), ("vandicort", "allergy", "spray", "twice"),
]
BASE_COMPANIES = "Anvil Birch Cobalt Delmar Everest Falcon Granite Harbor".split()


def clinic(rng, drugs=DRUGS):
    drug, condition, form, times = rng.choice(drugs)
    patient = people(rng, 1)[0]
    return fill(
        rng,
        rng.choice([
            "{Patient|Pt}: $n, $age-year-old $w. {Complaint|Reason for visit}: $c{ for $q days|, worse at night|}. "
            "{Exam: {normal|chest clear|mild tenderness}. BP $b over $l.|Vitals stable. BP $b over $l.} {Plan|"
            "Treatment}: {start|prescribe} $d $f $t daily. {Follow up in $q days.|Review in $q weeks.}",
            "{$^d is used to treat $c.|$^d is indicated for $c.|For $c, the usual drug is $d.|Patients with $c "
            "receive $d.} {It is given as a $f.|The $f is taken $t daily.|$^d comes as a $f.} {Side effects are "
            "{mild|rare|dizziness|dry mouth}.|}",
            "{The patient was admitted with|On admission the patient had} {acute|chronic|severe|mild} $c. "
            "{Treated with $d $f $t daily.|We gave $d with good effect.} {Discharged in stable condition.|No known "
            "allergies.|Labs within normal limits.|Symptoms improved after {two|three|four} days.}",
            "{Indication for $d: $c.|Drug: $d. Indication: $c. Form: $f. Dose: $t daily.|$^d ($f) treats $c. Dose: "
            "$t daily.}",
        ]),
        n=patient[0], w=patient[5], age=str(rng.randint(20, 85)), c=condition, d=drug, f=form, t=times,
        q=rng.choice(NUMBERS[2:9]), b=str(rng.randint(100, 160)), l=str(rng.randint(60, 100)))


HEADLINES = {
    "positive": "{$a shares {rise|jump|climb|gain} $n percent {after strong earnings|on record profit|as sales beat "
    "forecasts}.|$a {raises|lifts} full-year guidance {amid|on} strong demand.|Analysts upgrade $a to buy.|$a reports "
    "{quarterly|annual} profit of $n million dollars.|$a raises dividend {to|by} $n cents per share.}",
    "negative": "{$a shares {fall|drop|slide|tumble} $n percent {after weak earnings|on profit warning|as sales miss "
    "forecasts}.|$a {cuts|lowers} full-year guidance {amid|on} weak demand.|Analysts downgrade $a to sell.|$a reports "
    "{quarterly|annual} loss of $n million dollars.|$a cuts dividend {to|by} $n cents per share.}",
    "neutral": "{$a to acquire $b for $n billion dollars.|$a names new chief executive.|$a to hold annual meeting in "
    "$c.|$a and $b sign agreement in $c.|$a opens office in $c.}",
}


def headline(rng, tone, companies=COMPANIES):
    first, second = rng.sample(companies, 2)
    return fill(rng, HEADLINES[tone], a=first, b=second, n=str(rng.randint(2, 90)), c=rng.choice(COUNTRIES)[1])


def finance(rng, companies=COMPANIES):
    return " ".join(headline(rng, rng.choice(sorted(HEADLINES)), companies) for _ in range(rng.randint(1, 3)))


CLAUSES = {
    "payment": "The {Supplier|Client} shall pay all {fees|invoices|amounts due} within $n days of {the invoice date|receipt "
    "of the invoice}.",
    "termination": "Either party may {terminate|end} this Agreement {upon|with} $n days' written notice.",
    "confidentiality": "The {Client|Supplier} shall not disclose any {confidential information|trade secret} to any third "
    "party{ for $m months|}.",
    "law": "This Agreement shall be governed by the laws of $c.",
    "liability": "Neither party shall be liable for {indirect damages|any loss of profit} arising under this Agreement.",
    "term": "The term of this Agreement is $m months {and shall renew automatically|unless terminated earlier}.",
    "delivery": "The {Supplier|Client} shall {deliver|provide} {the goods|the services} within $n days of {receipt of "
    "notice|the effective date}.",
}


def clause(rng, kind):
    return fill(rng, CLAUSES[kind], n=str(rng.choice([7, 10, 14, 30, 60, 90])), m=str(rng.choice([6, 12, 24, 36])),
                c=rng.choice(COUNTRIES)[0])


def contract(rng, companies=COMPANIES):
    first, second = rng.sample(companies, 2)
    opening = f"This Agreement is made between {first} (the Supplier) and {second} (the Client). "
    clauses = [clause(rng, kind) for kind in rng.sample(sorted(CLAUSES), rng.randint(1, 4))]
    return (opening if rng.random() < 0.4 else "") + " ".join(clauses)


_CODE = [
    "def $f_$a($a, $b):\n    return $a {+|-|*} $b\n",
    "def $f_$a($a):\n    result = {0|1}\n    for i in range($a):\n        result += {i|$b|1}\n    return result\n",
    "def $f_$a($a):\n    \"\"\"{Return|Give back} the {first|last} {item|value} of $a.\"\"\"\n    return $a[{0|-1}]\n",
    "for $a in {range($n)|items|data}:\n    print($a)\n",
    "if $a {>|<|==} $n:\n    print(\"{big|small|same}\")\nelse:\n    print(\"{no|yes}\")\n",
    "import {math|random|os|json}\n\n$a = $n\nprint($a)\n",
    "while $a < $n:\n    $a += {1|2}\n",
    "$a = [{1, 2, 3|4, 5, 6|7, 8, 9}]\nfor $b in $a:\n    print($b)\n",
]


def code(rng):
    """One or two snippets of Python."""
    snippets = []
    for _ in range(rng.randint(1, 2)):
        first, second = rng.sample("x y n a b k items data name value".split(), 2)
        text = rng.choice(_CODE)
        verb = rng.choice("add get count total find make check read".split())
        text = text.replace("$f_", verb + "_")
        snippets.append(_uncapitalised(rng, text, a=first, b=second, n=str(rng.randint(1, 20))))
    return "\n".join(snippets)


def _uncapitalised(rng, template, **slots):
    return fill(rng, "#" + template, **slots)[1:] + "\n"


def base_sample(rng):
    """A little of each domain, for the pretraining corpus."""
    kind = rng.randrange(4)
    if kind == 0:
        return clinic(rng, BASE_DRUGS)
    if kind == 1:
        return contract(rng, BASE_COMPANIES)
    if kind == 2:
        return finance(rng, BASE_COMPANIES)
    return code(rng)
