"""`ftkit lab`: the learner's own copy of the lessons, opened in JupyterLab.

A file that the learner has changed is never overwritten: the folder has a list of the hashes of the
copied files, and only a file with an unchanged hash is updated. Next to a changed
lesson that uses names of ftkit which are gone, the new lesson is put as `NN_name.new.ipynb`.
"""

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

from ftkit.base import files, machine, ports
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.cli import old_imports, playground

HASHES = ".ftkit-lessons.json"


def copy_lessons(folder: str | Path, fresh: bool = False) -> tuple[Path, dict[str, list[str]]]:
    """Bring `folder` up to date; returns it and what happened to each file.

    The dict has lists of file names, lessons, figures and reference pages: new, updated, same,
    kept (changed by the learner and left alone). A kept lesson that cannot run also gets a new
    copy under another name, which is listed too. fresh: use a new folder next to it, `folder-2` or
    the next free number. All files are written before the first one is replaced, so a full disk
    changes nothing. Raises UserError when the lessons or the folder cannot be used.
    """
    source, folder = machine.share("notebooks"), at_home(folder)
    lessons = sorted(source.glob("*.ipynb"))
    if not lessons:
        raise UserError(f"{source} contains no lessons. Run `make notebooks` in a clone, or "
                        "install the package again.")
    if fresh:
        folder = files.free_path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Choose a folder for the lessons.")
    if folder.is_dir() and folder.samefile(source):
        raise UserError(f"{folder} contains the original lessons. Choose another folder for your "
                        "own copy.")
    old_hashes = _read_hashes(folder / HASHES)
    changes = {"new": [], "updated": [], "same": [], "kept": []}
    hashes, to_write = {}, {}

    def compare(path: Path, name: str) -> str:
        shipped, copy = _sha256(path), folder / name
        present = _sha256(copy) if copy.exists() else None
        copied = old_hashes.get(name)
        change = ("new" if present is None else "same" if present == shipped else
                  "updated" if present == copied else "kept")
        changes[change].append(name)
        hashes[name] = copied if change == "kept" else shipped
        if change in ("new", "updated"):
            to_write[name] = path
        return change

    beside = [*source.glob("figures/*.svg"), *source.glob("reference/*.md")]
    for path in lessons + sorted(beside):
        name = path.relative_to(source).as_posix()
        if compare(path, name) == "kept" and old_imports.missing_names(folder / name):
            compare(path, _beside(name))
    if built := playground.page():
        compare(built, "playground.html")
    if to_write or hashes != old_hashes:
        _write_all(to_write, hashes, folder)
    return folder, changes


def _beside(name: str) -> str:
    return f"{name.removesuffix('.ipynb')}.new.ipynb"


def _write_all(sources: dict[str, Path], hashes: dict, folder: Path):
    """Replace the files in `folder` only when all copies are on the disk."""
    created = [path for path in (folder / "figures", folder / "reference", folder,
                                *folder.parents)
               if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ftkit-", dir=folder,
                                         ignore_cleanup_errors=True) as path:
            temporary = Path(path)
            for name, source in sources.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source, temporary / name)
            (temporary / HASHES).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            for name in [*sources, HASHES]:
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(temporary / name, folder / name)
    except OSError as error:
        for parent in created:
            with contextlib.suppress(OSError):
                parent.rmdir()
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise UserError(f"the lessons cannot be copied to {folder}: {reason}. Nothing of yours "
                        "was changed. Choose another folder.") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_hashes(path: Path) -> dict:
    try:
        hashes = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return hashes if isinstance(hashes, dict) else {}


def report(folder: Path, changes: dict[str, list[str]]) -> str:
    lessons = {change: [name for name in names if name.endswith(".ipynb")]
               for change, names in changes.items()}
    counts = [f"{len(lessons[change])} {text}" for change, text in
              (("new", "new"), ("updated", "updated"), ("kept", "of yours kept as they are"))
              if lessons[change]]
    lines = [f"Lessons in {folder.resolve()}" + (f" ({', '.join(counts)})" if counts else "")]
    if changes["kept"]:
        lines.append("You changed " + ", ".join(changes["kept"]) + "; `ftkit lab --fresh` creates "
                     "a new folder with the unchanged lessons.")
    for name in changes["kept"]:
        missing = old_imports.missing_names(folder / name)
        if missing and (folder / _beside(name)).exists():
            lines.append(f"{name} uses {', '.join(missing)}, which this version of ftkit no longer "
                         f"has; the new lesson is next to it: {_beside(name)}")
    return "\n".join(lines)


def check_address(ip: str, port: int | None):
    """Raise UserError if `ip` is not this machine's IP address or `port` is in use."""
    try:
        ipaddress.ip_address(ip)
        ports.is_free(0, ip)  # any port; raises for an address of another machine
    except (ValueError, OSError):
        raise UserError(f"--ip is {ip!r}; expected an address of this machine such as 127.0.0.1 "
                        "(this machine only) or 0.0.0.0 (all networks)") from None
    if port is not None and not ports.is_free(port, "127.0.0.1"):
        raise UserError(f"port {port} is in use. Choose another port, or leave --port out.")


def serve(folder: Path, browser: bool = True, port: int | None = None, ip: str = "127.0.0.1"):
    """Run JupyterLab on `folder` in this process until it is stopped; prints its address.

    It requires a token, and listens on this machine only unless `ip` says otherwise (0.0.0.0 in a
    container). port: None takes 8888 or the next free one. Raises UserError like `check_address`.
    """
    check_address(ip, port)
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment
    from jupyterlab.labapp import LabApp

    token = secrets.token_hex(24)
    first = next((path.name for path in sorted(folder.glob("00*.ipynb"))), None)
    page = f"/lab/tree/{first}" if first else "/lab"
    options = [
        f"--ServerApp.root_dir={folder.resolve()}",
        f"--ServerApp.ip={ip}",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.port={port or 8888}",
        f"--ServerApp.open_browser={browser}",
        "--Application.log_level=WARN",
        f"--LabApp.default_url={page}",
        # No questions about news over the first cell, and no requests to other machines.
        f"--LabApp.app_settings_dir={machine.package() / 'notebook' / 'jupyter'}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # without it Jupyter refuses root, as in containers
    server = LabApp.initialize_server(argv=options)
    if not ipaddress.ip_address(ip).is_loopback:
        print(f"Listening on {ip}: whoever reaches it and has the token can run code here.")
    # As a callback it runs after the server's own, which opens the port.
    server.io_loop.add_callback(
        print, f"JupyterLab: http://127.0.0.1:{server.port}{page}?token={token}\n"
        "Stop it with Ctrl-C, twice.", flush=True)
    server.start()
