"""`ftkit lab`: a learner's own copy of the lessons, opened in JupyterLab.

A file that the learner changed is never written to: beside the lessons lies a list of the hashes
of what was handed out, and only a file that still has that hash is replaced by a newer one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import json
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from ftkit.base import machine, ports
from ftkit.base.errors import UserError

FOLDER = "ftkit-lessons"
HANDED_OUT = ".ftkit-lessons.json"


def copy_lessons(folder: str | Path = FOLDER, fresh: bool = False) -> tuple[Path, dict]:
    """Bring `folder` up to date; returns it and what happened to each file.

    The dict has lists of file names: new, updated, same, kept (changed by the learner, so left
    alone). fresh: a new folder beside it, `folder-2` or the next free number. All files are
    written beside their places first, so a full disk leaves everything as it was. Raises
    ValueError when the lessons or the folder cannot be used, OSError when it cannot be written.
    """
    source, folder = machine.share("notebooks"), Path(folder).expanduser()
    lessons = sorted(source.glob("*.ipynb"))
    if not lessons:
        raise UserError(f"no lessons in {source}; in a clone `make notebooks` builds them, an "
                        "installed package should be installed again")
    if fresh:
        folder = _beside(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the lessons")
    if folder.is_dir() and folder.samefile(source):
        raise UserError(f"{folder} is where the lessons are kept; give a folder for your own copy")
    handed_out = _read(folder / HANDED_OUT)
    told = {"new": [], "updated": [], "same": [], "kept": []}
    write, hashes = [], {}
    for lesson in lessons:
        shipped, here = _sha256(lesson), folder / lesson.name
        if not here.exists():
            what = "new"
        elif (found := _sha256(here)) == shipped:
            what = "same"
        else:
            what = "updated" if found == handed_out.get(lesson.name) else "kept"
        told[what].append(lesson.name)
        if what in ("new", "updated"):
            write.append(lesson)
        hashes[lesson.name] = handed_out.get(lesson.name) if what == "kept" else shipped
    if write or hashes != handed_out:
        _write_all(write, hashes, folder)
    return folder, told


def _write_all(lessons: list[Path], hashes: dict, folder: Path):
    """Put copies in place only when all of them are on the disk."""
    made = _missing_parents(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ftkit-", dir=folder) as waiting:
            waiting = Path(waiting)
            for lesson in lessons:
                shutil.copyfile(lesson, waiting / lesson.name)
            (waiting / HANDED_OUT).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            for name in [lesson.name for lesson in lessons] + [HANDED_OUT]:
                os.replace(waiting / name, folder / name)
    except OSError as error:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise UserError(f"the lessons cannot be copied to {folder}: {why}; nothing was changed, "
                        "give another folder") from error


def _missing_parents(folder: Path) -> list[Path]:
    """`folder` and the parents of it that do not exist yet, innermost first."""
    return [p for p in (folder, *folder.parents) if not p.exists()]


def _beside(folder: Path) -> Path:
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{folder.name.removesuffix(f'-{number - 1}')}-{number}")
        number += 1
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tell(folder: Path, told: dict) -> str:
    """What `copy_lessons` did, for the learner."""
    parts = [f"{len(told[what])} {word}" for what, word in
             (("new", "new"), ("updated", "updated"), ("kept", "of yours kept as they are"))
             if told[what]]
    lines = [f"Lessons in {folder.resolve()}" + (f" ({', '.join(parts)})" if parts else "")]
    if told["kept"]:
        lines.append("You changed " + ", ".join(told["kept"]) + "; `ftkit lab --fresh` makes a new "
                     "folder with the lessons as they were.")
    return "\n".join(lines)


def check_address(ip: str, port: int | None):
    """ValueError if a given port is taken or `ip` is no address."""
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        raise UserError(f"--ip is {ip!r}; expected an address such as 127.0.0.1 (this machine "
                        "only) or 0.0.0.0 (everyone who reaches it)") from None
    if port is not None and not ports.is_free(port, "127.0.0.1"):
        raise UserError(f"port {port} is in use; give another, or leave --port out")


def serve(folder: Path, browser: bool = True, port: int | None = None, ip: str = "127.0.0.1"):
    """Run JupyterLab on `folder` in this process until it is stopped; prints its address.

    It asks for a token and listens on this machine only, unless `ip` says otherwise (0.0.0.0 in a
    container). port: None takes 8888 or the next free one. Raises ValueError as `check_address`.
    """
    check_address(ip, port)
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment
    from jupyterlab.labapp import LabApp

    token = secrets.token_hex(24)
    first = next((p.name for p in sorted(folder.glob("00*.ipynb"))), None)
    page = f"/lab/tree/{first}" if first else "/lab"
    options = [
        f"--ServerApp.root_dir={folder.resolve()}",
        f"--ServerApp.ip={ip}",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.port={port or 8888}",
        f"--ServerApp.open_browser={browser}",
        "--Application.log_level=WARN",
        f"--LabApp.default_url={page}",
        # No questions about news over the first cell, and no requests to the outside.
        f"--LabApp.app_settings_dir={machine.package() / 'notebook' / 'jupyter'}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # Jupyter refuses root, as in containers, unless told
    server = LabApp.initialize_server(argv=options)
    # As a callback it runs after the server's own, which opens the port.
    if not ipaddress.ip_address(ip).is_loopback:
        print(f"Listening on {ip}: whoever reaches it and has the token can run code here.")
    server.io_loop.add_callback(
        print, f"JupyterLab: http://127.0.0.1:{server.port}{page}?token={token}\n"
        "Stop it with Ctrl-C, twice.", flush=True)
    server.start()
