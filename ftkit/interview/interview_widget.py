"""The mock interview in a notebook (`ft.drill(interview=True)`), by keyboard or mouse.

A small field takes keys, which its hint names; each has a button too. An area below takes the typed
answer or the code. Tab moves between them.
"""

import html
import threading
from pathlib import Path

import ipywidgets as W

from ftkit.interview import coding
from ftkit.interview.flashcards import Ticks, set_visible
from ftkit.interview.mock import Talk, Task
from ftkit.notebook.widgets import Code, Paragraphs, TextLines, button, guarded, row, spoken

HELP = ("Answer aloud, or type your answer into the area below the keys (Tab moves there); it is "
        "kept in a file. g and Enter then ask the follow-ups (write below your answer), and show "
        "the model answer and the rubric: tick what you said.",
        "The clock of a question does not cut you off. s skips a question, l leaves what is left "
        "of the round, q ends the interview; the report is shown in any case.",
        "In the coding round g runs your code; show a solution by x, and continue by g. "
        + coding.IMPORTED)


class Interview(W.VBox):
    """The mock interview in a notebook: see `mock.Talk` for its arguments.

    The clocks start with the first press of Start.
    """

    def __init__(self, level=None, topic=None, minutes: float | None = None, questions: int = 6,
                 seed: int | None = None, rounds=None, grader=None, partner: bool = False):
        self.talk = Talk(level, topic, minutes, questions, seed, rounds=rounds, grader=grader,
                         partner=partner)
        self.phase, self.path = "start", Path()
        self.task: Task = self.talk.tasks[0]
        self.went_well: list[bool] = []
        self.marks: list[int] = []  # length of the typed answer when each turn was asked
        self.asked_twice = False
        self.over = threading.Event()
        self.head = TextLines(f"{self.talk.plan()}.", css="ftkit-talk-head")
        self.prompt = TextLines("Answer each question aloud or in writing; then score yourself.",
                                bold=True, css="ftkit-talk-question")
        if partner:
            self.prompt.show("Give this page to the other person, and do not look: "
                             f"{self.talk.sheet()}")
        self.comment = Paragraphs(css="ftkit-talk-said")
        show_error = self.comment.show
        self.key = W.Text(layout=W.Layout(width="30em", max_width="100%"))
        self.key.add_class("ftkit-talk-key")
        self.key.observe(guarded(self._typed, show_error), "value")
        # Sent whole when the focus leaves it: letter by letter, the last ones may come after "g".
        self.answer = W.Textarea(continuous_update=False,
                                 layout=W.Layout(width="98%", height="10em"),
                                 placeholder="your answer, if you type it")
        self.answer.add_class("ftkit-talk-answer")
        self.model, self.solution = Paragraphs(css="ftkit-talk-model"), Code("ftkit-talk-code")
        self.ticks = Ticks()

        def make(name, icon, action, tip, css):
            return button(name, icon, action, tip, show_error, f"ftkit-talk-{css}")

        self.go = make("Start", "play", self._go, "continue (g)", "go")
        self.give_up = make("Show a solution", "eye", self._solution, "then continue (x)",
                            "solution")
        self.yes = make("y went well", "", lambda: self._score_follow_up(True), "", "yes")
        self.no = make("n did not", "", lambda: self._score_follow_up(False), "", "no")
        self.skip = make("Skip", "step-forward", self._skip, "this question (s)", "skip")
        self.leave = make("Leave the round", "fast-forward", self._leave, "(l)", "leave")
        self.quit = make("End with the report", "stop", self._finish, "(q)", "quit")
        self.help = make("Help", "question", lambda: self.comment.show(*HELP), "(?)", "help")
        self.opens = make("Open the report", "file-text-o", self._open, "shown below (o)", "open")
        self.report = W.VBox(layout=W.Layout(overflow="visible"))  # the page in it scrolls itself
        super().__init__([
            self.head, self.prompt, self.key, self.answer,
            row(self.go, self.give_up, self.yes, self.no, self.opens),
            self.comment, self.model, self.solution, self.ticks,
            row(self.skip, self.leave, self.quit, self.help), self.report,
            # Not the head: its clock changes every second.
            spoken(".ftkit-talk", "mock interview",
                   {".ftkit-talk-key": "key", ".ftkit-talk-answer": "your answer"},
                   [f".ftkit-talk-{name}" for name in ("question", "said", "model")])])
        self.add_class("ftkit-talk")
        self._visible("Start", "g and Enter starts, ? helps")

    def _visible(self, go: str, hint: str):
        self.go.description = go
        running = self.phase not in ("start", "over")
        asks_code = self.phase == "code"
        set_visible(self.phase != "over", self.go, self.help)
        set_visible(asks_code, self.give_up)
        writes = self.phase in ("ask", "follow", "code")
        own = self.phase in ("tick", "judge", "solved") and bool(self.answer.value.strip())
        set_visible(writes or own, self.answer)  # to compare with the model answer
        self.answer.disabled = not writes
        set_visible(self.phase == "judge", self.yes, self.no)
        set_visible(running, self.skip, self.leave, self.quit)
        set_visible(self.phase == "over", self.opens)
        # A key acts at once, but not where an answer may be typed into this field by mistake.
        self.key.continuous_update = self.phase not in ("start", "ask", "follow", "code")
        self.key.placeholder = hint

    def _typed(self, change):
        text = change["new"].strip()
        if not text:
            return
        self.key.value = ""
        if len(text) > 1 and self.phase == "code":
            self.comment.show("This field takes keys only, so nothing was added to your code. Tab "
                              "moves to the area below.")
            return
        if len(text) > 1 and self.phase in ("ask", "follow"):
            asks = self.phase == "ask" and self.task.facts and text.endswith("?")
            text = f"I asked: {text}" if asks else text
            self.answer.value = f"{self.answer.value}\n{text}".lstrip("\n")
            self.comment.show(self.talk.clarify(text) if asks else
                              "What you typed is in the area below. Tab moves there.")
            return
        key = text[-1].lower()
        running = self.phase not in ("start", "over")
        everywhere = {"s": self._skip, "l": self._leave, "q": self._finish} if running else {}
        if key in everywhere:
            everywhere[key]()
        elif key == "?":
            self.comment.show(*HELP)
        elif self.phase == "judge" and key in "yn":
            self._score_follow_up(key == "y")
        elif self.phase == "code" and key == "x":
            self._solution()
        elif self.phase == "tick" and key.isdigit():
            if told := self.ticks.toggle(int(key) - 1):
                self.comment.show(told)
        elif self.phase == "over":
            self._open()
        elif key == "g":
            self._go()
        else:
            self.comment.show(f"{key!r} does nothing here: {self.key.placeholder}")

    def _go(self):
        if self.phase == "start":
            self.talk.start()
            threading.Thread(target=guarded(self._tick_clock, self.comment.show), daemon=True,
                             name="ftkit-interview-clock").start()
            self._ask()
        elif self.phase in ("ask", "follow"):
            self._ask_follow_up()
        elif self.phase == "code":
            self._run()
        elif self.phase == "tick":
            if doubts := self.ticks.take():
                self.comment.show(*doubts)
                return
            self.phase = "judge"
            self.model.show()
            self.ticks.children = ()  # what is ticked counts; here something else is asked
            self._judge_follow_up()
        elif self.phase == "solved":
            self._ask()

    def _tick_clock(self):
        while not self.over.wait(1):
            if self.phase in ("ask", "code"):
                self.head.show(self.talk.clock_line())

    # --------------------------------------------------------------------------- one question

    def _ask(self):
        task = self.talk.task
        self.ticks.children = ()
        self.model.show()
        self.solution.show("")
        self.comment.show()
        if task is None:
            self._finish()
            return
        self.talk.start_question()
        self.went_well, self.marks = [], []
        self.turns = self.talk.turns(lambda: self.answer.value)
        self.task, self.phase = task, "code" if task.round == "coding" else "ask"
        self.head.show(self.talk.clock_line())
        self.prompt.show(task.prompt)
        self.answer.value = task.stub
        if self.phase == "code":
            self.comment.show(coding.IMPORTED)
            self._visible("Run it", "g runs, x shows a solution, s l q ?, then Enter")
        else:
            if task.facts:
                self.comment.show("Clarify first: type your questions into the field of the keys, "
                                  "each with a question mark and Enter.")
            self._visible("I have answered", "g answered, s skip, l leave, q end, ?, then Enter")

    def _ask_follow_up(self):
        """Ask the next follow-up; after the last one show the model answer."""
        self.marks.append(len(self.answer.value))
        if turn := next(self.turns, None):
            self.phase = "follow"
            self.prompt.show(turn)
            self._visible("I have answered", "g answered, s skip, l leave, q end, ?, then Enter")
        else:
            self._show_model()

    def _show_model(self):
        self.phase = "tick"
        path = self.talk.keep(self.answer.value)
        self.comment.show(f"Your answer is kept in {path}" if self.answer.value.strip() else "",
                          *self.talk.doubts(), *self.talk.heard.verdicts)
        self.prompt.show(self.task.prompt)
        if self.talk.partner:
            self.comment.show("Your interviewer names the points that you said.")
        else:
            self.model.show("**Model answer**", *self.task.model)
        self.ticks.show(self.talk.heard)
        self._visible("Continue", "1, 2, ... tick; g continues, ?")

    def _run(self):
        self.comment.show("Your code runs; loading torch takes some seconds ...")
        in_time = self.talk.seconds_for_task() >= 0
        solved, message = coding.run(self.task.id, self.answer.value)
        self.comment.show(message)
        if solved:
            self._end_coding({0, 1} if in_time else {0})

    def _solution(self):
        if self.phase == "code":
            self._end_coding(set())

    def _end_coding(self, points: set[int]):
        self.talk.keep(self.answer.value)
        self.talk.score(points)
        self.phase = "solved"
        self.model.show("**A solution**")
        self.solution.show(self.task.model[0])
        self._visible("Continue", "this is a solution; g continues")
        set_visible(False, self.skip, self.leave)

    def _judge_follow_up(self):
        """Show the answer of the next follow-up, to be judged; after the last one score."""
        if len(self.went_well) < len(self.task.follow_ups):
            follow = self.task.follow_ups[len(self.went_well)]
            self.prompt.show(f"Follow-up: {follow['question']}")
            self.comment.show("" if self.talk.partner else follow["answer"])
            self._visible("", "y went well, n did not")
            set_visible(False, self.go)
        else:
            self._score()
            self._ask()

    def _score_follow_up(self, well: bool):
        if self.phase != "judge":
            return
        index = len(self.went_well)
        first, last = (self.marks + self.marks[-1:] * 2)[index + bool(self.task.twist):][:2]
        if well and (why := self.talk.doubt(index, self.answer.value[first:last].strip())):
            if not self.asked_twice:
                self.asked_twice = True
                self.comment.show(self.task.follow_ups[index]["answer"], why)
                return
            self.talk.doubted.append(index)
        self.asked_twice = False
        self.went_well.append(well)
        self._judge_follow_up()

    def _score(self):
        self.talk.score(self.talk.heard.said, self.went_well)

    # ------------------------------------------------------------------- leaving and the report

    def _skip(self):
        if self.phase == "judge":  # what was ticked counts
            self._score()
        elif self.phase in ("ask", "follow", "code", "tick"):
            self.talk.skip()
        self._ask()

    def _leave(self):
        if self.phase == "judge":
            self._score()
        self.talk.leave_round(self.task.round)
        self._ask()

    def _finish(self):
        if self.phase == "over":
            return
        if self.phase == "judge" and len(self.talk.results) < len(self.talk.tasks) and (
                self.talk.current() is self.task):
            self._score()
        self.phase = "over"
        self.over.set()
        self.ticks.children = ()
        self.model.show()
        self.solution.show("")
        self.path = self.talk.report()
        self.head.show("The interview is over.")
        self.prompt.show("Your report")
        self.comment.show(f"Kept as {self.path}")
        self.report.children = (TextLines(*self.talk.lines(), css="ftkit-talk-report"),)
        self._visible("", "o opens the report")

    def _open(self):
        """Show the report in a frame that cannot run scripts."""
        page = W.HTML(f"<iframe sandbox srcdoc='{html.escape(self.path.read_text('utf-8'))}' "
                      "style='width:100%;box-sizing:border-box;height:32em;border:1px solid #888;"
                      "background:#fff' title='report'></iframe>", layout=W.Layout(width="100%"))
        page.add_class("ftkit-talk-page")
        self.report.children = (self.report.children[0], page)
