"""Runs behind a panel in a real kernel: awaited, interrupted, made again. No page is needed."""

import queue
import time
import types

import pytest

from ftkit.notebook import kernel

# a forecast may train first, so a fixed sleep does not show that the run has begun
BEGUN = """
import time
while not (panel.launcher.running() and panel.launcher.running().started_run):
    time.sleep(0.02)
"""
SETUP = """
import ftkit as ft
records = [{"instruction": f"Name {n}.", "input": "", "output": f"number {n}"} for n in range(40)]
lab = ft.Experiment(data=records, probes=(), eval_records=4)
config = ft.Config(max_steps=2, batch_size=4, eval_steps=1)
panel = ft.what_if(lab, config=config)
panel
"""


class Kernel:
    def __init__(self):
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def start(self, code: str) -> str:
        return self.client.execute(code)

    def finish(self, request: str, seconds: float = 120) -> list[dict]:
        """The messages of a cell up to its end."""
        told, end = [], time.monotonic() + seconds
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the cell did not end: {told}") from None
            if message["parent_header"].get("msg_id") != request:
                continue
            told.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return told

    def run(self, code: str) -> str:
        """What a cell prints; an exception in it is one here."""
        told = self.finish(self.start(code))
        wrong = [m["content"]["evalue"] for m in told if m["msg_type"] == "error"]
        assert not wrong, wrong
        return "".join(m["content"].get("text", "") for m in told if m["msg_type"] == "stream")


@pytest.fixture(scope="module")
def running():
    made = Kernel()
    yield made
    made.client.stop_channels()
    made.manager.shutdown_kernel(now=True)


def test_panel_and_result_in_a_kernel(running):
    assert "run this cell again" in running.run(SETUP)
    told = running.finish(running.start("run = await panel.result()\nrun"))
    shown = [m["content"]["data"] for m in told if m["msg_type"] == "display_data"]
    figure = next(data for data in shown if "image/png" in data)
    assert "<img alt=" in figure["text/html"] and "val_loss" in figure["text/plain"]
    assert "2 None" in running.run("print(len(run.rows), run.stopped)")

    # a later run replaces the figure under the cell that waited
    request = running.start("panel.config = config.but(seed=1)\npanel.start()\nruns = panel.wait()")
    running.finish(request)
    assert "A baseline B seed=1" in running.run("print(*map(panel.collection.name_of, panel.runs))")

    # an interrupt while a cell waits stops the run, keeps it, and the cell goes on
    running.run("panel.config = config.but(max_steps=2000)\npanel.start()" + BEGUN)
    waiting = running.start("run = await panel.result()\nprint(run.stopped)")
    time.sleep(1.0)
    running.manager.interrupt_kernel()
    told = running.finish(waiting)
    assert not [m for m in told if m["msg_type"] == "error"], told
    said = "".join(m["content"].get("text", "") for m in told if m["msg_type"] == "stream")
    assert "stopped manually after step" in said

    # an interrupt while no cell runs stops it too
    running.run("panel.config = config.but(max_steps=1900)\npanel.start()" + BEGUN)
    running.manager.interrupt_kernel()
    assert "stopped manually" in running.run("panel.wait()\nprint(panel.runs[-1].stopped)")

    # the cell of the panel run again, in the middle of training: the old run ends, kept
    running.run("old = panel\nold.config = config.but(max_steps=1800)\nold.start()" + BEGUN)
    running.run(SETUP)
    assert "stopped manually" in running.run("print([r.stopped for r in old.wait()][-1])")
    assert "2 None" in running.run("run = await panel.result()\nprint(len(run.rows), run.stopped)")
    shown = "from ftkit.notebook import widgets\nprint(widgets.failures)"
    assert running.run(shown).strip() == "[]"


def test_the_shim_changes_only_an_ipykernel_that_needs_it(monkeypatch):
    class Old:
        pass

    class New:
        def _reply_subshell_for(self, data, default):
            return "main"

    for base, changed in ((Old, False), (New, True)):
        monkeypatch.setitem(__import__("sys").modules, "ipykernel.comm.comm",
                            types.SimpleNamespace(BaseComm=base))
        assert kernel.keep_frontend_routing() is changed
    assert New()._reply_subshell_for({}, "the page's own") == "the page's own"
    monkeypatch.delitem(__import__("sys").modules, "ipykernel.comm.comm")
    assert kernel.keep_frontend_routing() is False


def test_an_own_csv_of_eight_records_started_at_once_trains_and_leaves_the_kernel_alive(
        running, tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("question,answer\n" + "".join(f"Who is {n}?,number {n}\n" for n in range(8)))
    assert "finished 15" in running.run(f"""
import ftkit as ft
panel = ft.what_if(data="capital", probes=(), config=ft.Config(max_steps=15, batch_size=4))
panel.picked.pickers["data"].value = {str(path)!r}
panel.start()
run = await panel.result()
print(run.end, len(run.rows), run.data["name"])
""").lower()
