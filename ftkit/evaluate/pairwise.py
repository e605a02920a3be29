"""Blind pairwise judging of two models' answers, side by side.

    votes = judge(questions, {"base": answers_a, "tuned": answers_b}, file="votes.jsonl")
    votes                      # in a notebook: the panel; buttons, or Tab and Enter
    votes.vote("left"); votes.undo(); votes.summary()
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from ftkit.base import append_log, formatting, json_lines
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import to_html
from ftkit.evaluate import metrics

CHOICES = ("left", "tie", "right")


def judge(questions: list[str], answers: dict[str, list[str]], file: str | Path | None = None,
          judge: str = "me", seed: int = 0) -> Votes:
    """Start a judging session on two models' answers to the same questions.

    answers: model name → its answers, for two models. The order of the questions and the models'
    sides are random (`seed`), so that position favors neither. file: each vote is appended to this
    file, and the judge's earlier votes are read from it. judge: name of the judge. Raises UserError
    if the lists have different lengths.
    """
    if len(answers) != 2:
        raise UserError(f"answers has {len(answers)} entries; expected two, each a model's name "
                        "with its list of answers")
    for name, given in answers.items():
        if len(given) != len(questions):
            raise UserError(f"{name!r} has {len(given)} answers to {len(questions)} questions; "
                            "expected one answer to each question")
    return Votes(questions, answers, at_home(file) if file else None, judge, seed)


class Votes:
    """A judging session, displayed as a panel.

    `results` maps the index of a question to the name of the winner, or "tie".
    """

    def __init__(self, questions, answers, file, judge, seed):
        self.questions, self.answers, self.file, self.judge = questions, answers, file, judge
        self.names = tuple(answers)
        rng = random.Random(seed)
        self.order = rng.sample(range(len(questions)), len(questions))
        self.swapped = [rng.random() < 0.5 for _ in questions]
        self.results: dict[int, str] = {}
        self.warning = ""
        for line in self._read():
            self._set(line["item"], line["won"])

    def _read(self) -> list[dict]:
        """Read this judge's votes from the file; other lines are skipped."""
        try:
            lines = json_lines.read(self.file) if self.file else []
        except OSError:
            return []
        votes = []
        for line in lines:
            try:
                if (line["judge"] == self.judge and line["won"] in (*self.names, "tie", None)
                        and self.questions[line["item"]] == line["question"]):
                    votes.append(line)
            except (TypeError, KeyError, IndexError):
                continue
        return votes

    @property
    def at(self) -> int | None:
        """Index of the next question to judge; None when all are judged."""
        return next((i for i in self.order if i not in self.results), None)

    def sides(self, item: int) -> tuple[str, str]:
        """Names of the models on the left and right."""
        return self.names[::-1] if self.swapped[item] else self.names

    def vote(self, choice: str):
        """Vote on the current question: left, tie or right."""
        if choice not in CHOICES:
            raise UserError(f"choice is {choice!r}; expected left, tie or right")
        item = self.at
        if item is None:
            raise UserError("all questions have been judged already")
        left, right = self.sides(item)
        won = {"left": left, "right": right, "tie": "tie"}[choice]
        self._set(item, won)
        self._keep(item, choice, won)

    def undo(self):
        """Undo the last vote and show its question again. Raises UserError if there is none."""
        if not self.results:
            raise UserError("there is no vote to undo")
        item = list(self.results)[-1]
        self._set(item, None)
        self._keep(item, "undo", None)

    def _set(self, item: int, won: str | None):
        """Record the winner of a question as the newest vote; None removes the vote."""
        self.results.pop(item, None)
        if won is not None:
            self.results[item] = won

    def _keep(self, item: int, choice: str, won: str | None):
        line = {"judge": self.judge, "item": item, "question": self.questions[item],
                "choice": choice, "won": won}
        if self.file is None:
            return
        try:
            append_log.append(self.file, json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            self.warning = ("the vote counts in this session but could not be saved to "
                            f"{self.file}: {error.strerror or error}")

    def win_rate(self, name: str) -> float:
        """Fraction of judged questions won by the model; a tie counts as half a win."""
        won = [1.0 if w == name else 0.5 if w == "tie" else 0.0 for w in self.results.values()]
        return sum(won) / len(won) if won else float("nan")

    def summary(self) -> str:
        """State the win rate and its 95 % confidence interval in a sentence."""
        n, name = len(self.results), self.names[1]
        if not n:
            return f"no votes yet; {len(self.questions)} pairs to judge"
        low, high = metrics.wilson(self.win_rate(name) * n, n)
        ties = sum(w == "tie" for w in self.results.values())
        sure = "" if low <= 0.5 <= high else ", which excludes a coin toss"
        return (f"{formatting.clean(name)} won {self.win_rate(name):.0%} of {n} "
                f"({ties} ties), 95 % interval {low:.0%} to {high:.0%}{sure}")

    def __repr__(self):
        return self.summary()

    def _repr_mimebundle_(self, **options):
        bundle = self.panel()._repr_mimebundle_(**options) or {}
        return dict(bundle) | {"text/plain": repr(self)}  # where widgets cannot be displayed

    def panel(self):
        """Create the widget: question, two answers with buttons, undo, progress."""
        import ipywidgets as W

        question, left, right, status = (W.HTML() for _ in range(4))
        status.add_class("ftkit-judge-status")
        names = {"left": "left is better", "tie": "no difference", "right": "right is better"}
        buttons = {choice: W.Button(description=names[choice], layout=W.Layout(width="auto"))
                   for choice in CHOICES}
        undo = W.Button(description="undo the last vote", layout=W.Layout(width="auto"))
        undo.add_class("ftkit-judge-undo")

        def show():
            item = self.at
            undo.disabled = not self.results
            for button in buttons.values():
                button.disabled = item is None
            done = f"{len(self.results)} of {len(self.questions)} judged"
            texts = [""] * 3 if item is None else [
                text or "(empty)" for text in
                (self.questions[item], *(self.answers[n][item] for n in self.sides(item)))]
            for box, name, text in zip((question, left, right),
                                       ("Question", "Answer on the left", "Answer on the right"),
                                       texts, strict=True):
                box.value = _labeled(name, text) if text else ""
            end = f": {self.summary()}" if item is None else f". {self.warning}"
            status.value = f"<span role='status'>{to_html(done + end)}</span>"

        def react(action):
            action()
            show()

        undo.on_click(lambda _: react(self.undo))
        for choice, button in buttons.items():
            button.add_class(f"ftkit-judge-{choice}")
            button.on_click(lambda _, c=choice: react(lambda: self.vote(c)))
        for box, name in ((question, "question"), (left, "left"), (right, "right")):
            box.add_class(f"ftkit-judge-text-{name}")
        show()
        half = W.Layout(width="50%", padding="0 0.5em 0 0")
        columns = W.HBox([W.VBox([left, buttons["left"]], layout=half),
                          W.VBox([right, buttons["right"]], layout=half)])
        return W.VBox([question, columns, W.HBox([buttons["tie"], undo]), status],
                      layout=W.Layout(width="auto"))


def _labeled(name: str, text) -> str:
    return (f"<section aria-label='{name}' style='line-height:1.4'><b>{name}</b>"
            f"<div style='white-space:pre-wrap;overflow-wrap:anywhere'>{to_html(str(text))}</div>"
            "</section>")
