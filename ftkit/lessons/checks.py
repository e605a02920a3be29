"""Check the learner's solution of an exercise.

    ft.check("lora_parameters", lora_parameters)

prints ✓ solved, ✗ and the failing case, or ○ not solved yet, and never stops Run All.
"""

import dis
import functools
import inspect
import math
import sysconfig
import traceback
import types
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.lessons import hints, progress_log

EXERCISES: dict[str, Callable] = {}


class Verdict:
    """A bool with a text. The text was already printed, so a notebook displays nothing.

    state: for a claim "holds", "opposite" (the other direction was seen) or "not settled"; for an
    exercise "solved", "wrong" or "unsolved".
    """

    def __init__(self, right: bool, text: str, state: str = ""):
        self.right, self.text, self.state = right, text, state

    def __bool__(self):
        return self.right

    def __repr__(self):
        return self.text

    def _ipython_display_(self):
        pass


def exercise(name: str):
    """Register the check of exercise `name`, a function that takes the learner's solution.

    It returns None for a right solution, else a message with the failing case and the expected
    value. The message of an AssertionError counts too. Raises RuntimeError for a name
    that another module uses.
    """
    def register(function):
        owner = EXERCISES.get(name, function).__module__
        if owner != function.__module__:
            raise RuntimeError(f"two exercises are named {name!r}, in {owner} and in "
                               f"{function.__module__}. Rename one of them.")
        EXERCISES[name] = function
        return function

    return register


def near(value, expected, tolerance=1e-3) -> bool:
    """Whether two numbers agree within a fraction of themselves; for checks."""
    return math.isclose(value, expected, rel_tol=tolerance, abs_tol=1e-12)


def check(name: str, candidate) -> Verdict:
    """Print ✓ solved, ✗ with the failing case, or ○ not solved yet.

    Not solved yet: None, `...`, or a function with an empty body. From the second wrong answer on,
    the message points to the hints. Raises UserError for an unknown exercise.
    """
    import ftkit.lessons.exercises  # noqa: F401  registers the checks of the lessons

    if name not in EXERCISES:
        raise UserError(f"no exercise is called {name!r}; expected one of "
                        f"{hints.suggestions(name, EXERCISES)}")
    state, text = _judge(EXERCISES[name], candidate)
    mark = {"solved": "✓", "wrong": "✗", "unsolved": "○"}[state]
    verdict = Verdict(state == "solved", clean(f"{mark} {name}: {text}"), state)
    print(verdict.text)
    if state == "wrong" and _was_wrong(name) and name in hints.read_all():
        print(f'  ft.hint("{name}") shows a hint')
    progress_log.add("check", name=name, state=state, message=text)
    return verdict


def working(name: str, candidate):
    """Return the learner's function if it solves the exercise, else the shown solution.

    Prints and logs nothing. Raises UserError for an unknown exercise.
    """
    import ftkit.lessons.exercises  # noqa: F401  registers the checks of the lessons

    helps = hints.read_all()
    if name not in EXERCISES or name not in helps:
        raise UserError(f"no exercise with a solution is called {name!r}; expected one of "
                        f"{hints.suggestions(name, EXERCISES.keys() & helps.keys())}")
    if _judge(EXERCISES[name], candidate)[0] == "solved":
        return candidate
    names: dict = {}
    exec(helps[name].code, names)
    return names[name]


def _was_wrong(name: str) -> bool:
    """Whether this learner's last answer to the exercise was wrong."""
    states = [entry.get("state") for entry in progress_log.entries()
              if entry.get("kind") == "check" and entry.get("name") == name]
    return bool(states) and states[-1] == "wrong"


# --------------------------------------------------------------------- what the message says


def _judge(check_solution, candidate) -> tuple[str, str]:
    """State and message of a candidate; a stub is unsolved, whatever its check returns."""
    if candidate is None or candidate is Ellipsis or _is_stub(candidate):
        return "unsolved", "not solved yet"
    is_function = isinstance(candidate, types.FunctionType)
    calls = _Calls(candidate) if is_function else None
    try:
        message = check_solution(calls.watched if calls else candidate)
    except NotImplementedError:
        return "unsolved", "not solved yet"
    except AssertionError as error:
        message = str(error) or "a condition of the check does not hold"
    except _WrongArguments as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001  the learner's code may raise anything
        if "ellipsis" in str(error):  # a gap between lines that were given
            return "unsolved", "not solved yet: a `...` is left in your code"
        message = _explain(error, check_solution, candidate, calls)
    if not message:
        return "solved", "solved"
    if calls and any(result is Ellipsis for result in calls.results):
        return "unsolved", "not solved yet: your function still returns `...`"
    if isinstance(candidate, type) and (missing := _still_to_write(candidate)):
        return "unsolved", f"not solved yet; still to be written: {missing}"
    nothing = calls and calls.results and all(result is None for result in calls.results)
    if nothing and not _returns_a_value(candidate):
        message = "your function returned None; is the `return` missing?"
    return "wrong", str(message)


class _WrongArguments(Exception):
    """The learner's function does not accept the arguments of the check."""


class _Calls:
    """`watched` behaves like the function; `results` has what each call returned."""

    def __init__(self, function):
        self.results: list = []

        @functools.wraps(function)
        def watched(*args, **options):
            try:
                inspect.signature(function).bind(*args, **options)
            except TypeError as error:
                given = ", ".join([_describe(arg) for arg in args]
                                  + [f"{name}={_describe(arg)}" for name, arg in options.items()])
                raise _WrongArguments(
                    f"the check calls it with ({given}), but your function takes "
                    f"{inspect.signature(function)}: {error}") from None
            result = function(*args, **options)
            self.results.append(result)
            return result

        self.watched = watched


def _explain(error: Exception, check_solution, candidate, calls: _Calls | None) -> str:
    """The message for an exception, with the learner's line or the value the check rejected."""
    python = f"{type(error).__name__}: {error}"
    if lines := _own_lines(error, check_solution):
        if "NoneType" in str(error) and (silent := _silent_methods(candidate)):
            return f"{silent[0]} returned None; is the `return` missing? ({python})"
        return f"it raised {python} (line {lines[-1]} of your code)"
    if calls is None and not isinstance(candidate, type):
        return f"you gave {_describe(candidate)}, which is not what the exercise asks for"
    if calls and not calls.results:
        return f"the check could not use your function: {python}"
    if calls:
        what = f"your function returned {_describe(calls.results[-1])}"
    elif silent := _silent_methods(candidate):
        return f"{silent[0]} returned None; is the `return` missing?"
    else:
        what = f"the check could not use what {candidate.__name__} gave ({python})"
    return f"{what}; compare its type and shape with those that the docstring asks for"


def _own_lines(error: Exception, check_solution) -> list[int]:
    """Traceback lines in the learner's own code, the deepest last."""
    others = [machine.package(), *(Path(sysconfig.get_path(name)) for name in (
        "stdlib", "purelib", "platlib"))]
    frames = [(frame.f_code.co_filename, line)
              for frame, line in traceback.walk_tb(error.__traceback__)
              if frame.f_code is not getattr(check_solution, "__code__", None)
              and not any(folder in Path(frame.f_code.co_filename).parents for folder in others)]
    return [line for file, line in frames if file == frames[0][0]]


def _describe(value) -> str:
    """A short value as it is, a long one by type and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "a tensor" if type(value).__module__.startswith("torch") else "an array"
        return f"{kind} of shape {tuple(value.shape)} and type {value.dtype}"
    if value is None or isinstance(value, bool | int | float | complex):
        return repr(value)
    if isinstance(value, type | types.FunctionType):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
    text = repr(value)
    if isinstance(value, list | tuple | dict | str | set) and len(text) > 40:
        return f"a {type(value).__name__} of length {len(value)}"
    return text if len(text) <= 40 else f"an object of type {type(value).__name__}"


# ----------------------------------------------------------------------------- empty bodies

_NO_WORK = {"RESUME", "NOP", "PUSH_NULL", "PRECALL", "CALL", "POP_TOP", "RETURN_VALUE",
            "RAISE_VARARGS", "COPY_FREE_VARS", "MAKE_CELL"}


def _is_stub(candidate) -> bool:
    """Whether a function has no body yet: a docstring, `...`, `pass`, `return None`, `return ...`
    or `raise NotImplementedError`. Reads the bytecode, since a notebook may have no source."""
    if not isinstance(candidate, types.FunctionType):
        return False
    constants, names = [], []
    for step in dis.get_instructions(candidate):
        if step.opname in ("LOAD_CONST", "RETURN_CONST"):
            constants.append(step.argval)
        elif step.opname == "LOAD_GLOBAL":
            names.append(step.argval)
        elif step.opname not in _NO_WORK:
            return False
    raises = names == ["NotImplementedError"]
    return (raises or not names) and all(
        value is None or value is Ellipsis or (raises and isinstance(value, str))
        for value in constants)


def _methods(candidate) -> dict[str, types.FunctionType]:
    if not isinstance(candidate, type):
        return {}
    return {name: value for name, value in vars(candidate).items()
            if isinstance(value, types.FunctionType)}


def _still_to_write(candidate: type) -> str:
    """Names of a class's stub methods; the name of the class if it has no methods."""
    methods = _methods(candidate)
    empty = [f"`{name}`" for name, method in methods.items() if _is_stub(method)]
    return ", ".join(empty) if methods else f"`{candidate.__name__}`"


def _silent_methods(candidate) -> list[str]:
    """Methods without a return value, where a `return` may be missing."""
    return [f"`{name}`" for name, method in _methods(candidate).items()
            if not name.startswith("__") and not _returns_a_value(method)]


def _returns_a_value(function) -> bool:
    """Whether any `return` of a function gives something other than None."""
    before = None
    for step in dis.get_instructions(function):
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return True
        if step.opname in ("RETURN_GENERATOR", "YIELD_VALUE"):
            return True
        none = before and before.opname == "LOAD_CONST" and before.argval is None
        if step.opname == "RETURN_VALUE" and (step.is_jump_target or not none):
            return True
        before = step
    return False
