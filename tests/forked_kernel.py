"""Jupyter kernels that do not each pay the import of torch: they are forked from one process.

`start` stands in for jupyter_client's `launch_kernel`; notebooks/conftest.py says where.
"""

from __future__ import annotations

import multiprocessing
import os
import time

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["ipykernel.kernelapp", "torch", "peft",
                               "transformers.models.llama.modeling_llama"])


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
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=["-f", connection])
