"""Jupyter kernels for the smoke tier of the lessons: they are forked from one process, so that not
each pays the import of torch, and `lighten` has them do every kind of work on little.

`start` stands in for jupyter_client's `launch_kernel`; notebooks/conftest.py says where.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["ipykernel.kernelapp", "torch", "peft", "matplotlib.pyplot",
                               "transformers.models.llama.modeling_llama"])
FEW = 8  # records that an evaluation reads, prompts that are answered
LAYERS = 2  # of a model whose step is traced


class ForkedKernel:
    """A process of the fork server, with the methods of Popen that jupyter_client calls."""

    stdin = stdout = stderr = None

    def __init__(self, process):
        self.process, self.pid = process, process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        return self.process.exitcode

    def send_signal(self, number: int):
        os.kill(self.pid, number)

    def terminate(self):
        self.process.terminate()

    def kill(self):
        self.process.kill()


def start(command: list[str], env=None, cwd=None, **_) -> ForkedKernel:
    """Start the kernel whose connection file ends the command."""
    process = SERVER.Process(target=serve, args=(command[-1], dict(env or os.environ), cwd))
    process.start()
    while process.is_alive() and os.getpgid(process.pid) != process.pid:
        time.sleep(0.01)  # jupyter_client signals the whole group, which must not be ours
    return ForkedKernel(process)


def serve(connection: str, env: dict[str, str], cwd: str | None):
    """What the forked process does: be a Jupyter kernel until it is shut down."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd or ".")
    lighten()
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=["-f", connection])


def lighten():
    """Evaluate, answer and trace less than a lesson asks for; runs take few steps by FTKIT_TIER.
    So what the smoke tier prints is no result, and `ft.expect` asserts nothing in it. Functions are
    replaced before anything of the lesson runs, in a process that has only this lesson."""
    from ftkit.evaluate import scoring
    from ftkit.experiment import inputs
    from ftkit.lessons.bugs import pipeline

    some, answers = inputs.some, scoring.answers

    @functools.wraps(answers)
    def few_answers(model, tokenizer, records, *args, **kwargs):
        given = answers(model, tokenizer, records[:FEW], *args, **kwargs)
        return given + [""] * (len(records) - len(given))

    pipeline.STEPS = 2
    inputs.some = lambda records, n: some(records, min(n, FEW))
    scoring.answers = few_answers
