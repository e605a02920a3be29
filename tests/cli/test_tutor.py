"""`ftkit mcp`: a whole exchange with a real client, and no attempt gets a solution."""

import asyncio
import os
import re
import sys

import pytest

from ftkit.base.errors import UserError
from ftkit.cli.tutor import TOOLS, Tutor
from ftkit.lessons import hints, progress_log

pytestmark = pytest.mark.quick
EXERCISES = hints.read_all()


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def body(code: str) -> str:
    """What is in a solution beyond the heads of its functions, which the lesson shows."""
    return squeezed("".join(line for line in code.splitlines()
                            if line.strip() and not line.startswith(("def ", "import ", "from "))))


def attempts(name: str) -> list[tuple[str, dict]]:
    """Twenty ways to ask for the solution of an exercise."""
    folder = hints.machine.package() / "lessons" / "exercises"
    file = next(p for p in folder.glob("*.md") if f"# {name}\n" in p.read_text("utf-8"))
    n = file.stem[-2:]  # of the lesson; another word for the exercises of the interview
    odd = (f"{name}\n", f"../{name}", f"{name} solution", f"# {name}", f"'{name}' or 1=1", "*")
    return [("solution", {"exercise": name}), ("verdict", {"exercise": name}),
            *[("hint", {"exercise": name})] * 4, *[("solution", {"exercise": e}) for e in odd],
            ("lesson", {"number": n}), ("lesson", {"number": n, "part": name}),
            ("lesson", {"number": f"../ftkit/lessons/exercises/{file.name}"}),
            ("term", {"name": name}), ("cards", {"topic": name}), ("runs", {"id": f"../{name}"}),
            ("start_run", {"data": f"ftkit/lessons/exercises/{file.name}"}),
            ("start_run", {"data": "translation; cat lesson_02.md"})]


@pytest.mark.parametrize("name", EXERCISES)
def test_twenty_attempts_do_not_get_a_solution(home, name):
    tutor, wanted = Tutor(), body(EXERCISES[name].code)
    tries = attempts(name)
    assert len(tries) == 20 and len(wanted) > 8
    for tool, options in tries:
        try:
            answer = getattr(tutor, tool)(**options)
        except UserError as error:
            answer = str(error)
        assert wanted not in squeezed(answer), (tool, options)
    assert not progress_log.entries()


def test_the_next_hint_comes_after_a_failed_check_only(home):
    tutor = Tutor()
    for number in (1, 2, 3):
        assert "after a failed" in tutor.hint("merge_weight")
        progress_log.add("check", name="merge_weight", state="unsolved", message="not yet")
        assert "after a failed" in tutor.hint("merge_weight")
        progress_log.add("check", name="merge_weight", state="wrong", message=f"try {number}")
        assert tutor.verdict("merge_weight") == f"wrong: try {number}"
        assert tutor.hint("merge_weight").startswith(f"Hint {number} of 3: ")
    progress_log.add("check", name="merge_weight", state="wrong", message="again")
    assert "All 3 hints" in tutor.hint("merge_weight")
    assert tutor.solution("merge_weight").startswith("Not yet")


@pytest.mark.parametrize("opens", [{"kind": "solution"}, {"kind": "check", "state": "solved"}])
def test_a_solution_is_given_once_it_is_allowed(home, opens):
    progress_log.add(**opens, name="lora_parameters")
    names = [name for name in EXERCISES if name != "lora_parameters"]
    assert "def " in Tutor().solution("lora_parameters")
    assert all(Tutor().solution(name).startswith("Not yet") for name in names)


@pytest.mark.heavy
def test_a_client_has_a_whole_exchange_over_stdio(home):
    mcp = pytest.importorskip("mcp")

    async def exchange():
        here = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "ftkit", "mcp"],
            env=os.environ | {"FTKIT_HOME": str(home), "OMP_NUM_THREADS": "1"})
        async with mcp.stdio_client(here) as (read, write), mcp.ClientSession(
                read, write) as session:
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]

            async def call(tool, **options):
                answer = await session.call_tool(tool, options)
                return answer.content[0].text

            progress_log.add("check", name="merge_weight", state="wrong", message="no")
            return names, [await call("lesson", number="02", part="merge"),
                           await call("hint", exercise="merge_weight"),
                           await call("hint", exercise="merge_weight"),
                           await call("hint", exercise="nothing"), await call("term", name="LoRA"),
                           await call("start_run", max_steps=2), await call("runs")]

    names, (lesson, first, second, wrong, term, started, runs) = asyncio.run(exchange())
    assert sorted(names) == sorted(TOOLS)
    assert "merge" in lesson and first.startswith("Hint 1 of 3") and "after a failed" in second
    assert "no exercise is called 'nothing'" in wrong and term.startswith("LoRA")
    assert "2 steps in" in started and "tiny, 2 steps" in runs
