"""The `ftkit` command: a thin door to the package.

Progress goes to stderr, results to stdout, with --json as exactly one JSON object. Exit status:
0 done; 2 what was asked cannot be done, told in one sentence; 1 a failure of ours (FTKIT_DEBUG=1
shows its traceback); 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import gc
import json
import os
import re
import sys
import traceback
import warnings
from pathlib import Path

from ftkit import machine
from ftkit.config import Config
from ftkit.jsonl import DataError

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


class UsageError(ValueError):
    """The command line itself is wrong."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):  # a console that knows no "→" shows "?", no traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    machine.share_cores()  # the kernels of `ftkit lab` inherit it
    try:
        args = _parser().parse_args(argv)
        status = args.work(args)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # --help and --version
        return stop.code or DONE
    except KeyboardInterrupt:
        return _tell("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `ftkit runs | head`
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if os.environ.get("FTKIT_DEBUG"):
            traceback.print_exc()
        if _of_the_user(error):
            return _tell(str(error), WRONG)
        first = (str(error).strip().splitlines() or [""])[0]
        hint = "" if os.environ.get("FTKIT_DEBUG") else " (FTKIT_DEBUG=1 shows where)"
        return _tell(f"{type(error).__name__}: {first}{hint}", FAILED)


def _of_the_user(error: Exception) -> bool:
    """True for a ValueError that this package raised: that is how it tells a user's mistake."""
    if isinstance(error, DataError | UsageError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    ours = frames and Path(frames[-1].filename).parent == Path(__file__).parent
    return bool(ours) and isinstance(error, ValueError)


def _tell(sentence: str, status: int) -> int:
    print("ftkit: " + " ".join(sentence.split()), file=sys.stderr)
    return status


def _json(value):
    print(json.dumps(value))


# ---------------------------------------------------------------------------- what can be asked


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are our sentences, with the nearest name that exists."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message):
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        wrong = re.match(r"argument COMMAND: invalid choice: '?([^' ]*)", message)
        known, word = None, None
        if unknown:
            word = unknown[1].partition("=")[0]
            known = [o for o in self._option_string_actions if o.startswith("--")]
            message = f"unknown option {word}" if word.startswith("-") else (
                f"{word!r} is one word too many")
        elif wrong:
            word = wrong[1]
            known = list(self._subparsers._group_actions[0].choices)
            message = f"no command {word!r}"
        near = difflib.get_close_matches(word, known, n=2, cutoff=0.5) if word else []
        if near:
            message += f"; did you mean {' or '.join(near)}?"
        raise UsageError(f"{message.rstrip('.')}{'' if near else ';'} see `{self.prog} --help`")

    def parse_known_args(self, args=None, namespace=None):
        # Told here rather than by the parser above, which does not know this command's options.
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left


def _parser() -> argparse.ArgumentParser:
    from ftkit import __version__

    parser = _Parser(prog="ftkit", description="Learn to fine-tune language models by doing it.")
    parser.add_argument("--version", action="version", version=f"ftkit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def command(name, work, help):
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        sub.set_defaults(work=work)
        return sub

    lab = command("lab", _lab, "open your own copy of the lessons in JupyterLab")
    lab.add_argument("folder", nargs="?", default="ftkit-lessons", metavar="DIR",
                     help="where your copy is or shall be (default: ./ftkit-lessons)")
    lab.add_argument("--fresh", action="store_true",
                     help="make a new folder with the lessons as they were")
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--port", metavar="N", help="default: 8888 or the next free one")

    doctor = command("doctor", _doctor, "what this machine is, what it can run, what is missing")
    _json_option(doctor)

    run = command("run", _run, "fine-tune once and tell what happened")
    _run_options(run)

    check = command("check", _check, "look a data file over before it is trained on")
    check.add_argument("file", metavar="FILE", help="JSON Lines")
    check.add_argument("--against", metavar="FILE", action="append",
                       help="count the rows that leak from this file (repeatable)")
    check.add_argument("--model", metavar="NAME", help="count tokens with this model's tokenizer")
    check.add_argument("--max-length", metavar="N",
                       help="find the records that are too long (default with --model: its own)")
    _json_option(check)

    fetch = command("fetch", _fetch, "get a real model: smollm2")
    fetch.add_argument("name", metavar="NAME", help="smollm2: SmolLM2-135M-Instruct, about 0.5 GB")
    _json_option(fetch)

    runs = command("runs", _runs, "list the runs so far, or show some of them")
    runs.add_argument("ids", nargs="*", metavar="ID", help="an id or its beginning")
    _json_option(runs)
    return parser


def _json_option(parser):
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _run_options(parser):
    still = parser.add_argument_group("what is held still")
    still.add_argument("--model", default="tiny", metavar="NAME",
                       help="tiny (default), smollm2, a folder, or a hub id")
    still.add_argument("--data", default="translation", metavar="NAME|FILE",
                       help="a sample or a JSONL file (default: translation)")
    still.add_argument("--val", metavar="FILE",
                       help="validation records (default: the sample's, else a tenth of the data)")
    still.add_argument("--probe", action="append", metavar="NAME|FILE", dest="probes",
                       help="held-out records whose loss is watched (repeatable; default: "
                            "general; none: nothing is watched)")
    varies = parser.add_argument_group("what may vary (names as in transformers and peft)")
    for field in dataclasses.fields(Config):
        kind = str(field.type).split(" ")[0]
        choices, text = field.metadata["choices"], field.metadata["help"]
        if choices:
            text += f" ({', '.join(choices)})"
        if field.default is not None:
            text += f"; default: {str(field.default).lower() if kind == 'bool' else field.default}"
        flag = {"nargs": "?", "const": "true"} if kind == "bool" else {}
        names = {"int": "N", "float": "X", "bool": "true|false"}
        varies.add_argument("--" + field.name.replace("_", "-"), dest=field.name,
                            default=argparse.SUPPRESS, help=text.replace("%", "%%"),
                            metavar=names.get(kind, "NAME"), **flag)
    out = parser.add_argument_group("what comes out")
    out.add_argument("--out", metavar="DIR", help="save the adapter or model there")
    _json_option(out)
    out.add_argument("--quiet", action="store_true", help="no progress bar")


# ------------------------------------------------------------------------------- doing it


def _lab(args) -> int:
    from ftkit import lab

    port = None if args.port is None else _whole("--port", args.port, 1, 65535)
    folder, told = lab.copy_lessons(args.folder, fresh=args.fresh)
    print(lab.tell(folder, told), flush=True)
    lab.serve(folder, browser=not args.no_browser, port=port)
    return DONE


def _doctor(args) -> int:
    from ftkit import doctor

    found = doctor.examine()
    _json(found) if args.json else print(doctor.tell(found))
    return DONE if found["ok"] else FAILED


def _run(args) -> int:
    from ftkit.bar import Bar
    from ftkit.experiment import Experiment

    names = [field.name for field in dataclasses.fields(Config)]
    config = Config(**{name: getattr(args, name) for name in names if hasattr(args, name)})
    probes = ["general"] if args.probes is None else [p for p in args.probes if p != "none"]
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", FutureWarning)  # what libraries have to say to each other
    if args.model == "smollm2":
        _have_smollm2(args)
    gc.disable()  # importing torch and transformers leaves little to collect; looking costs 0.6 s
    # Everything that is read is checked here, before torch is even imported.
    lab = Experiment(model=args.model, data=args.data, val=args.val, probes=probes)
    bar = Bar("training", quiet=args.quiet)
    if bar.terminal:  # a line that the next one replaces; a log needs no such line
        bar.say(f"loading {args.model} and measuring it before the first step")

    def on_row(row):
        whole = row["step"] / config.max_steps if config.max_steps else row["epoch"] / config.epochs
        bar(whole, f"step {row['step']}, loss {row['loss']:.3f}")

    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result alone
            run = lab.run(config, on_start=lambda _: gc.enable(), on_row=on_row, live=False,
                          out=args.out)
    finally:
        gc.enable()
        bar.close()
    _json(run.to_json()) if args.json else print(_told(run))
    if (run.stopped or "").startswith("interrupted"):
        return _tell(f"{run.stopped}; its rows are kept in {machine.home() / 'runs' / run.id}",
                     INTERRUPTED)
    return DONE


def _have_smollm2(args):
    """Fetch it if it is not here, once the data is known to be good."""
    from ftkit import data, fetch

    if fetch.find("smollm2") is None:
        data.records(args.data)
        _fetch_with_bar("smollm2", args.quiet)


def _told(run) -> str:
    """A finished run for a reader: what was asked, a small table, one sentence."""
    from ftkit import words

    config = str(run.config) or "everything at its default"
    share = run.trainable_parameters / max(1, run.total_parameters)
    rows = [{"": key, "before": run.before[key], "after": run.after[key]}
            for key in run.after if key in run.before]
    lines = [
        f"{run.model_name} on {run.data['name']} ({run.data['rows']:,} records), {config}",
        f"{len(run.rows)} steps in {run.seconds:.1f} s, {run.tokens_per_second:,.0f} tokens/s, "
        f"{run.trainable_parameters:,} parameters trained ({share:.1%})",
        "", repr(words.table(rows)), "", words.summary(run),
        *(f"Note: {note}" for note in run.notes),
        f"Kept as run {run.id}" + (f", saved to {run.saved_to}" if run.saved_to else ""),
    ]
    return "\n".join(lines)


def _check(args) -> int:
    from ftkit import data, models

    tokenizer, length = None, None
    if args.max_length is not None:
        length = _whole("--max-length", args.max_length, 2)
        args.model = args.model or "tiny"
    files = [args.file, *(args.against or [])]
    for file in files:  # before a tokenizer is loaded
        if not Path(file).expanduser().is_file():
            data.records(Path(file))  # says what is the matter with it
    if args.model:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        tokenizer = models.load_tokenizer(args.model)
        length = length or min(models.context(args.model), 512)
    found = data.check(Path(args.file).expanduser(), tokenizer=tokenizer, max_length=length,
                       against=args.against)
    _json(found) if args.json else print(_told_check(found))
    if found["errors"]:
        problems = [data.Problem(**problem) for problem in found["errors"]]
        return _tell(str(DataError(args.file, problems)).partition("; run `ftkit check")[0]
                     + ")" * (len(problems) > 1), WRONG)
    return DONE


def _told_check(found: dict) -> str:
    """The audit of a file for a reader; at most 20 of each list."""
    lines = [f"{found['rows']:,} rows, {len(found['errors']):,} errors, "
             f"{len(found['warnings']):,} warnings, {found['duplicates']:,} duplicates, "
             f"{found['near_duplicates']:,} near-duplicates, {found['leaks']:,} leaks"]
    for what in ("errors", "warnings"):
        for problem in found[what][:20]:
            field = f", {problem['field']}" if problem["field"] else ""
            lines.append(f"{what[:-1]} line {problem['row']}{field}: {problem['problem']}")
        if len(found[what]) > 20:
            lines.append(f"... and {len(found[what]) - 20:,} more {what} (--json has them all)")
    for name, spread in found["lengths"].items():
        unit = "tokens" if name.endswith("tokens") else "characters"
        lines.append(f"{name.removesuffix('_tokens')}, {unit}: " + ", ".join(
            f"{word} {number:,}" for word, number in spread.items()))
    return "\n".join(lines)


def _fetch(args) -> int:
    from ftkit import fetch

    here = fetch.find(args.name) is not None
    folder = _fetch_with_bar(args.name, quiet=False)
    told = fetch.about(folder)
    if args.json:
        _json({"name": args.name, "folder": str(folder), "about": told, "was_here": here})
    else:
        print(f"{folder}: {told}")
    return DONE


def _fetch_with_bar(name: str, quiet: bool) -> Path:
    from ftkit import fetch
    from ftkit.bar import Bar

    bars = {}

    def progress(what, share):
        if what not in bars:
            for bar in bars.values():
                bar.close()
            bars[what] = Bar(what, quiet=quiet)
            bars[what].say()
        if share is not None:
            bars[what](share)

    try:
        with contextlib.redirect_stdout(sys.stderr):
            return fetch.fetch(name, progress)
    finally:
        for bar in bars.values():
            bar.close()


def _runs(args) -> int:
    from ftkit import run, words

    found = [run.load_run(id) for id in args.ids] if args.ids else run.list_runs()
    if args.json:
        _json({"runs": [one.to_json() for one in found]})
    elif args.ids:
        print("\n\n".join(_told(one) for one in found))
    elif not found:
        print(f"No runs in {machine.home() / 'runs'} yet; `ftkit run` makes the first.")
    else:
        print(words.table([{
            "id": one.id, "model": one.model_name, "data": one.data.get("name"),
            "config": str(one.config), "steps": len(one.rows),
            **{key: f"{one.before.get(key, float('nan')):.3f} → {value:.3f}"
               for key, value in one.after.items()},
            "stopped": one.stopped or "",
        } for one in found]))
    return DONE


def _whole(option: str, text: str, low: int, high: int | None = None) -> int:
    try:
        number = int(text)
        if number >= low and (high is None or number <= high):
            return number
    except ValueError:
        pass
    most = "" if high is None else f" and at most {high}"
    raise UsageError(f"{option} is {text!r}; expected a whole number of at least {low}{most}")


if __name__ == "__main__":
    sys.exit(main())
