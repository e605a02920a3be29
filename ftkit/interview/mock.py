"""A mock interview without a screen: four rounds, a clock for each question, written rubrics.

    talk = Talk(level="mid", questions=6); talk.task; talk.keep("my answer"); talk.score({0, 2})
    talk.skip(); talk.leave_round(); talk.report()

The rounds are concept (questions of the bank), coding (exercises of the lessons, judged by running
the code), design (a problem of 35 minutes or more) and story (your own experience).
`interview_widget` shows an interview in a notebook, `mock_terminal` in a terminal. Answers are kept
in `home()/interviews/TIME/answers.md`, next to the report.
"""

import contextlib
import dataclasses
import random
import re
import secrets
import statistics
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ftkit.base import files, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, to_html
from ftkit.interview import agreement, bank, cards, clarifying, coding, rubrics
from ftkit.interview.grader import Grader
from ftkit.interview.listening import Heard, misconceptions, words_of
from ftkit.interview.rubrics import Point
from ftkit.lessons import progress_log

ROUNDS = ("concept", "coding", "design", "story")
STRONG, WEAK = 0.75, 0.5
CHANGED, SHOWN = 0.2, 5  # a change of a topic that is named; earlier interviews in a report
SHEET = ("You have the rubric, the candidate does not. Tell facts only when asked, and tell the "
         "candidate at the end which points were said, by their numbers.")
ENOUGH = 3  # questions on a topic, before it is called a strength or a gap
CONCEPT_MINUTES, CODING_MINUTES = 3, 10
CODING_POINTS = (Point(3, "The code passes the check"), Point(1, "Within the time"))


@dataclasses.dataclass(frozen=True)
class Task:
    """One question of an interview.

    minutes: its clock. points: its rubric. model: the paragraphs of the model answer. cards: ids in
    the bank to repeat after a weak answer. stub: the code to complete. facts: what the interviewer
    tells who asks; about: the topics of each. twist: what changes at half time.
    """

    round: str
    id: str
    topic: str
    prompt: str
    minutes: int
    points: tuple[Point, ...]
    model: tuple[str, ...]
    lessons: tuple[str, ...]
    cards: tuple[str, ...]
    follow_ups: tuple[dict[str, str], ...] = ()
    stub: str = ""
    facts: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    twist: str = ""


def _concept(question: bank.Question) -> Task:
    return Task("concept", question.id, question.topic, question.question, CONCEPT_MINUTES,
                rubrics.points(question), (f"**In short: {question.short}**", question.answer),
                (question.lesson,), (question.id,), question.follow_ups)


def _coding(name: str) -> Task:
    exercise = coding.tasks()[name]
    return Task("coding", name, f"coding, lesson {exercise.lesson}", exercise.statement,
                CODING_MINUTES, CODING_POINTS, (exercise.solution,), (exercise.lesson,), (),
                stub=exercise.stub)


def _prepared(line: dict) -> Task:
    model = [*line["model"], *(f"Check: `{command}` gives {gigabytes:g} GB."
                               for command, gigabytes in line.get("checks", ()))]
    return Task(line["round"], line["id"], line["topic"], line["prompt"], line["minutes"],
                tuple(Point(*point) for point in line["points"]), tuple(model),
                tuple(line["lessons"]), tuple(line["cards"]), tuple(line.get("follow_ups", ())),
                facts=tuple(line.get("facts", ())), about=tuple(line.get("about", ())),
                twist=line.get("twist", ""))


class Talk:
    """The tasks of an interview, its clocks and the scores so far.

    level, topic, questions: select the concept questions and their number. minutes: limit of the
    interview (default: the sum of all clocks); the current question may still be answered. rounds:
    names of ROUNDS (default: all). grader: reads what is typed. partner: another person has the
    rubric (`sheet`). Raises UserError for an argument that cannot be used.
    """

    def __init__(self, level=None, topic=None, minutes: float | None = None, questions: int = 6,
                 seed: int | None = None, clock: Callable[[], float] = time.monotonic,
                 rounds: bank.Names = None, store: cards.Store | None = None,
                 grader: Grader | None = None, partner: bool = False):
        if minutes is not None and (isinstance(minutes, bool) or not 0 < minutes <= 24 * 60):
            raise UserError(f"minutes is {minutes!r}; expected a number above 0, at most 1440")
        if isinstance(questions, bool) or not isinstance(questions, int) or questions < 1:
            raise UserError(f"questions is {questions!r}; expected a whole number of at least 1")
        self.rounds = bank.names("round", rounds, ROUNDS)
        self.seed = secrets.randbelow(10**6) if seed is None else seed
        self.left_out: list[str] = []  # rounds that do not fit into the minutes
        tasks = self._draw(level, topic, questions)
        self.tasks = tasks if minutes is None else self._fitting(tasks, minutes, bool(rounds))
        self.minutes = sum(task.minutes for task in self.tasks) if minutes is None else minutes
        self.clock, self.store = clock, store or cards.Store()
        self.grader, self.partner = None if partner else grader, partner
        self.results: list[dict] = []  # one for each task that is over
        self.on_word = 0  # ticked points that the typed answers do not show
        stamp = time.strftime("%Y-%m-%d-%H%M%S")
        self.folder = machine.home() / "interviews" / f"{stamp}-{self.seed}"
        self._begin()
        self.start()

    def _begin(self):
        """Nothing is answered yet: the rubric of the current question, with no point ticked."""
        self.answer = ""
        self.doubted: list[int] = []  # follow-ups that went well on the candidate's word alone
        self.heard = Heard(self.current().points if len(self.results) < len(self.tasks) else ())

    def _draw(self, level, topic, questions: int) -> list[Task]:
        rng = random.Random(self.seed)
        pool = bank.questions(level, topic)
        if not pool and "concept" in self.rounds:
            cards.deck(level, topic, own=None)  # raises, and says what exists
        tasks = {"concept": [_concept(q) for q in draw_questions(pool, questions, rng)],
                 "coding": [_coding(rng.choice(coding.of_level(level) or coding.of_level()))]}
        for name in ("design", "story"):
            tasks[name] = [_prepared(rng.choice(list(bank.prepared(name).values())))]
        return [task for name in ROUNDS if name in self.rounds for task in tasks[name]]

    def _fitting(self, tasks: list[Task], minutes: float, chosen: bool) -> list[Task]:
        """The tasks whose clocks fit into the minutes.

        Rounds that were not chosen are left out, the longest first; then there are fewer concept
        questions; the clocks of what still does not fit run faster.
        """
        def clocks() -> int:
            return sum(task.minutes for task in tasks)

        concept = [task for task in tasks if task.round == "concept"]
        while not chosen and len(self.rounds) > 1 and (
                clocks() - sum(task.minutes for task in concept[1:]) > minutes):
            longest = max(tasks, key=lambda task: (task.round != "concept", task.minutes)).round
            self.left_out.append(longest)
            self.rounds = [name for name in self.rounds if name != longest]
            tasks = [task for task in tasks if task.round != longest]
        while len(concept) > 1 and clocks() > minutes:
            tasks.remove(concept.pop())
        faster = min(1.0, minutes / clocks())
        return [dataclasses.replace(task, minutes=max(1, int(task.minutes * faster)))
                for task in tasks]

    def plan(self) -> str:
        """How many questions each round has, in how many minutes, and what does not fit."""
        count = {name: sum(task.round == name for task in self.tasks) for name in self.rounds}
        clocks = sum(task.minutes for task in self.tasks)
        left = f"; no time for {' and '.join(self.left_out)}" if self.left_out else ""
        return (", ".join(f"{n} {name}" for name, n in count.items())
                + f"; the clocks of the questions add up to {clocks} of {self.minutes:g} minutes"
                + left)

    def start(self):
        """Start the clocks anew."""
        self.started = self.asked = self.clock()

    def start_question(self):
        """Start the clock of the current question, when it is shown."""
        self.asked = self.clock()

    # ------------------------------------------------------------------ the task being asked

    @property
    def task(self) -> Task | None:
        """The current task; None when all are done or the time is up."""
        done = len(self.results)
        return None if done == len(self.tasks) or self.seconds_left() <= 0 else self.tasks[done]

    def current(self) -> Task:
        """The next task to score, even after the time is up. Raises UserError when all are done."""
        if len(self.results) == len(self.tasks):
            raise UserError("the interview is over. Call `report` to write its report.")
        return self.tasks[len(self.results)]

    def seconds_left(self) -> float:
        """Seconds left of the interview, at least 0."""
        return max(0.0, 60 * self.minutes - (self.clock() - self.started))

    def seconds_for_task(self) -> float:
        """Seconds left on the clock of the current question; negative when it has run out."""
        return 60 * self.current().minutes - (self.clock() - self.asked)

    def clock_line(self) -> str:
        """Round, number and clock of the current question in one line."""
        return (f"{self.current().round} · question {len(self.results) + 1} of {len(self.tasks)} · "
                f"{format_clock(self.seconds_for_task())}")

    # ------------------------------------------------------------------------------- answers

    def keep(self, answer: str) -> Path:
        """Append the answer to the current question to the file of answers; returns its path."""
        task = self.current()
        self.answer = answer.strip()
        self.heard = agreement.listen(self.grader, task.prompt, task.points, self.answer,
                                      "\n".join(task.model))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "answers.md"
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"## {task.prompt}\n\n{self.answer or '(said aloud)'}\n\n")
        return path

    def doubts(self) -> list[str]:
        """Misconceptions that the typed answer to a question of the bank seems to have, and the
        prepared case that it seems to be about instead of this one."""
        task = self.current()
        if task.round == "concept":
            return misconceptions(bank.find(task.id), self.answer)
        return [f"This reads like an answer to another question, “{self.heard.other}” No point is "
                "suggested."] if self.heard.other else []

    def clarify(self, asked: str) -> str:
        """What the interviewer tells a candidate who asks this about a design task."""
        task, chosen = self.current(), None
        if self.grader:
            with contextlib.suppress(UserError):  # without an endpoint: by the words of topics
                chosen = self.grader.fact(asked, task.facts)
        return clarifying.answer(asked, task.prompt, task.facts, task.about, chosen)

    def turns(self, so_far: Callable[[], str]) -> Iterator[str]:
        """What the interviewer says after the first answer, one after the other: the check at half
        time with what changes, the follow-ups, and one of a grader's own.

        so_far: gives what was answered until then.
        """
        task = self.current()
        if task.twist:
            yield (f"Half time: {_clock(self.clock() - self.asked)} of {task.minutes} minutes, "
                   f"{len(Heard(task.points, so_far(), task.prompt).said)} of "
                   f"{len(task.points)} points heard. "
                   f"And now: {task.twist}")
        yield from (f"Follow-up: {follow['question']}" for follow in task.follow_ups)
        if self.grader and so_far().strip():
            with contextlib.suppress(UserError):
                if question := self.grader.follow_up(task.prompt, so_far()):
                    yield f"Follow-up: {question}"

    def doubt(self, follow_up: int, typed: str) -> str:
        """Why it is doubted that a follow-up went well: what was typed has next to no word of its
        answer. Empty if it has, or if nothing of this question was typed. Said to have gone well
        nevertheless, it counts on the candidate's word alone."""
        follow = self.current().follow_ups[follow_up]
        point = Point(1, follow["answer"])
        words, = words_of((point,), follow["question"], "")
        if self.partner or not self.answer or (typed and words.named_in(typed)):
            return ""
        return (f"“{typed}” has next to no word of this answer." if typed else
                "Nothing was typed here.") + " y again counts it on your word alone."

    def sheet(self) -> Path:
        """Write the page for the other person: facts, changes, rubrics, follow-ups, answers."""
        path = self.folder / "for_your_interviewer.html"
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, PAGE.format(
            title="Mock interview: the interviewer's sheet", first=SHEET, rest="",
            questions="".join(map(_for_interviewer, self.tasks))))
        return path

    def code_file(self) -> Path:
        """The file for the code of the current task; created with the stub if it does not exist."""
        task = self.current()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{task.id}.py"
        if not path.exists():
            path.write_text(f'"""{textwrap.fill(task.prompt, 90)}"""\n\n{task.stub}', "utf-8")
        return path

    def score(self, points: Iterable[int], follow_ups: list[bool] | None = None):
        """Score the current question.

        points: indices (from 0) of the rubric's points that the answer covered. follow_ups: for
        each one asked, whether it went well. Raises UserError for a point that does not exist.
        """
        task, heard = self.current(), self.heard
        heard.tick(points)
        said, on_word = heard.said, set(heard.challenged())
        score, shown = heard.score(), heard.score() - rubrics.score(task.points, on_word)
        if follow_ups:
            share = 0.3 * sum(follow_ups) / len(follow_ups)
            unseen = 0.3 * len(self.doubted) / len(follow_ups)
            score, shown = 0.7 * score + share, 0.7 * shown + share - unseen
        self.on_word += len(on_word) + len(self.doubted)
        self._finish(score, [p.text for i, p in enumerate(task.points) if i not in said], shown)
        progress_log.add("interview", question=task.id, round=task.round, topic=task.topic,
                         score=score, interview=self.folder.name)
        if score < WEAK:
            for card in task.cards:  # due at once
                self.store.add(card, 1, topic=bank.find(card).topic, source="interview")

    def skip(self):
        """Skip the current question: the report names it, the score ignores it."""
        self._finish(None, [])

    def leave_round(self, name: str | None = None):
        """Skip the rest of a round (default: the current one)."""
        name = name or self.current().round
        while len(self.results) < len(self.tasks) and self.current().round == name:
            self.skip()

    def _finish(self, score: float | None, missed: list[str], shown: float | None = None):
        seconds = self.clock() - self.asked
        self.results.append({"task": self.current(), "score": score, "missed": missed,
                             "answer": self.answer, "seconds": seconds, "shown": shown})
        self.asked = self.clock()
        self._begin()

    # -------------------------------------------------------------------------------- report

    def scored(self) -> list[dict]:
        """The results of the questions that were not skipped."""
        return [result for result in self.results if result["score"] is not None]

    def summary(self) -> dict:
        """Mean scores (0 to 1) by round and topic; strengths and gaps, from three questions on;
        the cards and lessons to do."""
        weak = [r["task"] for r in self.scored() if r["score"] < STRONG]
        topics = {topic: scores for topic, scores in self._by("topic").items()
                  if len(scores) >= ENOUGH}
        means = {topic: sum(scores) / len(scores) for topic, scores in topics.items()}
        scores = [r["score"] for r in self.scored()]
        return {
            "rounds": {name: sum(s) / len(s) for name, s in self._by("round").items()},
            "score": sum(scores) / max(1, len(scores)),
            "shown": sum(r["shown"] for r in self.scored()) / max(1, len(scores)),
            "asked": len(scores), "planned": len(self.tasks),
            "strengths": [topic for topic, mean in means.items() if mean >= STRONG],
            "gaps": [topic for topic, mean in means.items() if mean < WEAK],
            "cards": list(dict.fromkeys(card for task in weak for card in task.cards)),
            "exercises": [task.id for task in weak if task.round == "coding"],
            "lessons": sorted({lesson for task in weak for lesson in task.lessons})}

    def verdict(self) -> str:
        """Hire or no hire, with the reasons: rounds, topics, and points of weight 3 not said. What
        counts on the candidate's word alone is left out."""
        facts = self.summary()
        if 2 * facts["asked"] < len(self.tasks):
            return "No verdict: fewer than half of the questions were answered."
        weak = [name for name, score in facts["rounds"].items() if score < WEAK]
        core = [p.text for r in self.scored() for p in r["task"].points
                if p.weight == rubrics.CORE and p.text in r["missed"]]
        reasons = {"weak rounds": weak, "gaps": facts["gaps"], "strengths": facts["strengths"],
                   "not said": [f"“{text}”" for text in core[:3]]}
        hire = facts["shown"] >= STRONG and not weak
        return "; ".join([f"{'Hire' if hire else 'No hire'} at {facts['shown']:.0%}", *(
            f"{what}: {', '.join(which)}" for what, which in reasons.items() if which)]) + "."

    def judge(self) -> str:
        """Who decided which points were said, for the report."""
        if self.partner:
            return "a second person, who had the rubric"
        return "yourself, by ticking the rubric" + (
            f", with the verdicts of {agreement.known(self.grader)}" if self.grader else "") + (
            f"; points on your word alone: {self.on_word}" if self.on_word else "")

    def _compared(self) -> list[str]:
        """Scores of earlier interviews, and topics that changed by a fifth or more."""
        before = [talk for talk in history() if talk.name != self.folder.name]
        if not before or not self.scored():
            return []
        now = {topic: sum(s) / len(s) for topic, s in self._by("topic").items()}
        past = {topic: score for talk in before for topic, score in talk.topics.items()}
        changed = [f"{topic} {past[topic]:.0%} → {now[topic]:.0%}" for topic in now
                   if abs(now[topic] - past.get(topic, now[topic])) >= CHANGED]
        return ["Interviews so far: " + ", ".join(
            f"{talk.name[:10]} {talk.score:.0%}" for talk in before[-SHOWN:])
            + f", this one {self.summary()['score']:.0%}"
            + (f". Since then: {', '.join(changed)}" if changed else "")]

    def _by(self, field: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for result in self.scored():
            found.setdefault(getattr(result["task"], field), []).append(result["score"])
        return found

    def lines(self) -> list[str]:
        """The report in plain lines."""
        facts = self.summary()
        few = f"none named: fewer than {ENOUGH} questions on each topic"
        enough = any(len(scores) >= ENOUGH for scores in self._by("topic").values())
        skipped = len(self.results) - facts["asked"]
        lines = [f"{facts['score']:.0%} over {facts['asked']} of {facts['planned']} questions"
                 + (f", {skipped} skipped" if skipped else "")
                 + (f"; {facts['shown']:.0%} without what counts on your word alone"
                    if self.on_word else ""),
                 self.verdict(), f"Judged by: {self.judge()}", *self._compared(),
                 *(f"Round {name}: {score:.0%}"
                                   for name, score in facts["rounds"].items()),
                 "Strengths: " + (", ".join(facts["strengths"]) or ("none" if enough else few)),
                 "Gaps: " + (", ".join(facts["gaps"]) or ("none" if enough else few))]
        if facts["cards"]:
            lines.append("Cards to do: " + ", ".join(facts["cards"])
                         + " (those of questions scored below half are due now in the drill)")
        if facts["exercises"]:
            lines.append("Exercises to do: " + ", ".join(facts["exercises"]))
        return [*lines, "Lessons to do again: " + (", ".join(facts["lessons"]) or "none")]

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report as one HTML page; default: `report.html` in the interview's folder."""
        path = Path(path) if path else self.folder / "report.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        first, *rest = self.lines()
        page = PAGE.format(title=f"Mock interview, {time.strftime('%Y-%m-%d')}",
                           first=_escape(first), rest=_list(rest),
                           questions="".join(map(_section, self.results)))
        files.write_whole(path, page)
        return path


class PastTalk(NamedTuple):
    """An interview in the progress log: its folder's name, mean score, and means by topic."""

    name: str
    score: float
    topics: dict[str, float]


def history() -> list[PastTalk]:
    """The interviews in the progress log in which something was scored, oldest first."""
    found: dict[str, dict[str, list[float]]] = {}
    for entry in progress_log.entries():
        if entry.get("kind") == "interview" and entry.get("interview"):
            topics = found.setdefault(str(entry["interview"]), {})
            topics.setdefault(str(entry.get("topic")), []).append(float(entry.get("score") or 0))
    return [PastTalk(name, statistics.mean(s for scores in topics.values() for s in scores),
                     {topic: statistics.mean(scores) for topic, scores in topics.items()})
            for name, topics in found.items()]


def format_clock(seconds: float) -> str:
    """`2:05 left`, or `0:10 over` for negative seconds."""
    return f"{_clock(abs(seconds))} {'left' if seconds >= 0 else 'over'}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


BOLD, KEY_SENTENCE = re.compile(r"\*\*(.+?)\*\*"), r"<b>\1</b>"


def _escape(text: str) -> str:
    return to_html(clean(text))


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_escape(line)}</li>" for line in lines) + "</ul>"


def _for_interviewer(task: Task) -> str:
    """One question of the interviewer's sheet as HTML."""
    parts = {"Tell who asks": task.facts, "At half time": filter(None, [task.twist]),
             "Points [weight]": [f"{i} [{p.weight}] {p.text}"
                                 for i, p in enumerate(task.points, 1)],
             "Then ask": [f"{f['question']} — {f['answer']}" for f in task.follow_ups]}
    lists = {title: list(lines) for title, lines in parts.items()}
    return (f"<h3>{_escape(f'{task.round}, {task.minutes} min: {task.prompt}')}</h3>"
            + "".join(f"<h4>{title}</h4>{_list(lines)}" for title, lines in lists.items() if lines)
            + "<h4>Model answer</h4>" + _block(task, task.model))


def _section(result: dict) -> str:
    """One question of the report as HTML: score, own answer, what was not said, model answer."""
    task, score = result["task"], result["score"]
    took = f"{int(result['seconds']) // 60}:{int(result['seconds']) % 60:02} of {task.minutes} min"
    facts = [task.round, "skipped" if score is None else f"{score:.0%}", took, task.topic]
    parts = [f"<h3>{_escape(task.prompt)}</h3><p>{_escape(' · '.join(facts))}</p>"]
    if result["answer"]:
        parts.append("<h4>Your answer</h4>" + _block(task, result["answer"].split("\n")))
    if result["missed"]:
        parts.append("<h4>Not said</h4>" + _list(result["missed"]))
    return "".join(parts) + "<h4>Model answer</h4>" + _block(task, task.model)


def _block(task: Task, lines) -> str:
    """Paragraphs; the lines of code as they are."""
    if task.round == "coding":
        return "<pre>" + to_html("\n".join(lines)) + "</pre>"
    return "".join(f"<p>{BOLD.sub(KEY_SENTENCE, _escape(line))}</p>" for line in lines
                   if line.strip())


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>body{{font:16px/1.5 sans-serif;
max-width:46em;margin:2em auto;padding:0 1em;color:#222;background:#fff}}h3{{margin:1.6em 0 .2em}}
h4{{margin:.8em 0 .1em}}p{{margin:.2em 0}}
pre{{background:#f4f4f4;padding:.5em;white-space:pre-wrap}}
@media print{{h3,h4{{break-after:avoid}}}}</style></head><body><main>
<h1>{title}</h1><h2>{first}</h2>{rest}<h2>Question by question</h2>{questions}</main></body></html>
"""


def draw_questions(pool: list[bank.Question], count: int,
                   rng: random.Random) -> list[bank.Question]:
    """`count` questions at random, or the whole pool if it is smaller; topics take turns.

    From six questions on, as many topics as possible have enough questions to be called a strength
    or a gap; fewer questions are on different topics.
    """
    topics: dict[str, list[bank.Question]] = {}
    for question in rng.sample(pool, len(pool)):
        topics.setdefault(question.topic, []).append(question)
    long = [questions[:ENOUGH] for questions in topics.values() if len(questions) >= ENOUGH]
    repeated = count // ENOUGH if count >= 2 * ENOUGH else 0
    together = [question for questions in long[:repeated] for question in questions]
    others = [q for q in bank.take_turns(rng.sample(pool, len(pool))) if q not in together]
    return bank.take_turns((together + others)[:count])
