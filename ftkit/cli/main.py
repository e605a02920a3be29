"""The `ftkit` command: a thin door to the package.

Progress goes to stderr, results to stdout, with --json as exactly one JSON object. Exit status:
0 done; 2 what was asked cannot be done, told in one sentence; 1 a failure of ours (FTKIT_DEBUG=1
shows its traceback); 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.cli import options
from ftkit.data import audit
from ftkit.data.jsonl import DataError, show
from ftkit.report import series
from ftkit.report.table import table

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    for name in ("stdout", "stderr"):  # None where the caller closed it (`>&-`)
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))
    for stream in (sys.stdout, sys.stderr):  # a console that knows no "→" shows "?", no traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    machine.share_cores()  # the kernels of `ftkit lab` inherit it
    machine.keep_few_kernels()
    try:
        args = options.parse(argv)
        status = COMMANDS[args.command](args)
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
        if isinstance(error, UserError):
            asked = getattr(error, "change", None)  # a run that does not fit, and what would
            options_ = "".join(f" --{k.replace('_', '-')} {v}" for k, v in (asked or {}).items())
            return _tell(str(error) + (options_ and f"; add{options_.lower()}"), WRONG)
        if isinstance(error, OSError) and _named(error.filename, args):
            return _tell(f"{show(str(error.filename), 80)}: {error.strerror}; give another", WRONG)
        first = (str(error).strip().splitlines() or [""])[0]
        hint = "" if os.environ.get("FTKIT_DEBUG") else " (FTKIT_DEBUG=1 shows where)"
        return _tell(f"{type(error).__name__}: {first}{hint}", FAILED)


def _named(path, args) -> bool:
    """Whether the command line names this path, or a folder above it."""
    given = {str(Path(word).expanduser()) for value in vars(args).values()
             for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)}
    return path is not None and not given.isdisjoint(map(str, (Path(path), *Path(path).parents)))


def _tell(sentence: str, status: int) -> int:
    print("ftkit: " + " ".join(sentence.split()), file=sys.stderr)
    return status


def _json(value):
    print(json.dumps(value))


# ------------------------------------------------------------------------------- doing it


def _lab(args) -> int:
    from ftkit.cli import jupyterlab

    port = None if args.port is None else options.whole("--port", args.port, 1, 65535)
    jupyterlab.check_address(args.ip, port)
    folder, told = jupyterlab.copy_lessons(args.folder, fresh=args.fresh)
    print(jupyterlab.tell(folder, told), flush=True)
    jupyterlab.serve(folder, browser=not args.no_browser, port=port, ip=args.ip)
    return DONE


def _doctor(args) -> int:
    from ftkit.cli import doctor

    found = doctor.examine()
    _json(found) if args.json else print(doctor.tell(found))
    return DONE if found["ok"] else FAILED


def _run(args) -> int:
    from ftkit.base.progress_bar import Bar
    from ftkit.experiment.experiment import Experiment

    config = _config(args)
    probes = ["general"] if args.probes is None else [p for p in args.probes if p != "none"]
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", FutureWarning)  # what libraries have to say to each other
    if args.model == "smollm2":
        _have_smollm2(args)
    gc.disable()  # importing torch and transformers leaves little to collect; looking costs 0.6 s
    # Everything that is read is checked here, before torch is even imported.
    lab = Experiment(model=args.model, data=args.data, val=args.val, probes=probes)
    if args.ranks or args.zero or args.torchrun:
        gc.enable()
        return _ranks(args, lab, config)
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
    _json(run.to_dict()) if args.json else print(_told(run))
    if (run.stopped or "").startswith("interrupted"):
        return _tell(f"{run.stopped}; its rows are kept in {machine.home() / 'runs' / run.id}",
                     INTERRUPTED)
    return DONE


def _config(args) -> Config:
    names = [field.name for field in dataclasses.fields(Config)]
    return Config(**{name: getattr(args, name) for name in names if hasattr(args, name)})


def _memory(args) -> int:
    from ftkit.memory_use import footprint, model_shapes

    if args.models:
        listed = {"models": model_shapes.names(), "gpus": list(model_shapes.GPUS)}
        _json(listed) if args.json else print("\n".join(
            [*listed["models"], "", "GPUs: " + ", ".join(listed["gpus"])]))
        return DONE
    counts = {"gpus": options.whole("--gpus", args.gpus, 1, 2**20),
              "zero": options.whole("--zero", args.zero, 0, 3),
              "logits": args.logits and options.whole("--logits", args.logits, 1)}
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", FutureWarning)
    gc.disable()  # as in _run; a trace leaves nothing to collect either
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = footprint.memory(_config(args), args.model, **counts, offload=args.offload,
                                     device=args.device, attention=args.attention,
                                     measure=args.measure)
    finally:
        gc.enable()
    _json(found.to_dict()) if args.json else print(found.told())
    return DONE


def _ranks(args, lab, config) -> int:
    """The run on several processes, or as a folder for torchrun."""
    if args.out:
        raise options.UsageError("--out does not go with --ranks or --torchrun; `train.py --save` "
                                 "of the folder that --torchrun writes keeps the tuned model")
    if args.zero and not args.ranks:
        raise options.UsageError(f"--zero {args.zero} needs --ranks: among how many processes?")
    ranks_asked = options.whole("--ranks", args.ranks, 1, 64) if args.ranks else None
    stage = options.whole("--zero", args.zero or "3", 0, 3)
    from ftkit.distributed import launch

    with contextlib.redirect_stdout(sys.stderr):
        if args.torchrun:
            folder = launch.export(lab, config, args.torchrun, ranks=ranks_asked)
        else:
            made = launch.train(lab, config, ranks=ranks_asked, zero=stage)
    if args.torchrun:
        start = f"torchrun --nproc-per-node {ranks_asked or 2} {folder / 'train.py'}"
        _json({"folder": str(folder), "start": start}) if args.json else print(
            f"{folder} holds the run; start it with: {start}")
    else:
        _json(made.to_dict()) if args.json else print(made)
    return DONE


def _have_smollm2(args):
    """Fetch it if it is not here, once the data is known to be good."""
    from ftkit.data import schema
    from ftkit.model import download

    if download.find("smollm2") is None:
        schema.records(args.data)
        _fetch_with_bar("smollm2", args.quiet)


def _told(run) -> str:
    """A finished run for a reader: what was asked, a small table, one sentence."""

    config = str(run.config) or "everything at its default"
    share = run.trainable_parameters / max(1, run.total_parameters)
    rows = [{"": key, "before": run.before[key], "after": run.after[key]}
            for key in run.after if key in run.before]
    lines = [
        f"{run.model_name} on {run.data['name']} ({run.data['rows']:,} records), {config}",
        f"{len(run.rows)} steps in {run.seconds:.1f} s, {run.tokens_per_second:,.0f} tokens/s, "
        f"{run.trainable_parameters:,} parameters trained ({share:.1%})",
        "", repr(table(rows)), "", series.summary(run),
        *(f"Note: {note}" for note in run.notes),
        f"Kept as run {run.id}" + (f", saved to {run.saved_to}" if run.saved_to else ""),
    ]
    return "\n".join(lines)


def _check(args) -> int:
    from ftkit.data import schema
    from ftkit.model import loading

    tokenizer, length = None, None
    if args.max_length is not None:
        length = options.whole("--max-length", args.max_length, 2)
        args.model = args.model or "tiny"
    files = [args.file, *(args.against or [])]
    for file in files:  # before a tokenizer is loaded
        path = Path(file).expanduser()
        if path.is_dir() or not path.exists():
            schema.records(Path(file))  # says what is the matter with it
    if args.model:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        tokenizer = loading.load_tokenizer(args.model)
        length = length or min(loading.context(args.model), 512)
    found = audit.check(Path(args.file).expanduser(), tokenizer=tokenizer, max_length=length,
                       against=args.against)
    _json(found) if args.json else print(_told_check(found))
    if found["errors"]:
        problems = [schema.Problem(**problem) for problem in found["errors"]]
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


def _export(args) -> int:
    from ftkit.model.export import export

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with contextlib.redirect_stdout(sys.stderr):
        folder = export(args.source, args.out, args.dtype)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if args.json:
        _json({"folder": str(folder), "dtype": args.dtype, "bytes": size})
    else:
        print(f"{folder}: {size / 1e6:,.1f} MB in {args.dtype}, with README.md, its card")
    return DONE


def _fetch(args) -> int:
    from ftkit.model import download

    here = download.find(args.name) is not None
    folder = _fetch_with_bar(args.name, quiet=False)
    told = download.about(folder)
    if args.json:
        _json({"name": args.name, "folder": str(folder), "about": told, "was_here": here})
    else:
        print(f"{folder}: {told}")
    return DONE


def _fetch_with_bar(name: str, quiet: bool) -> Path:
    from ftkit.base.progress_bar import Bar
    from ftkit.model import download

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
            return download.fetch(name, progress)
    finally:
        for bar in bars.values():
            bar.close()


def _runs(args) -> int:
    from ftkit.experiment import run

    found = [run.load_run(id) for id in args.ids] if args.ids else run.list_runs()
    if args.json:
        _json({"runs": [one.to_dict() for one in found]})
    elif args.ids:
        print("\n\n".join(_told(one) for one in found))
    elif not found:
        print(f"No runs in {machine.home() / 'runs'} yet; `ftkit run` makes the first.")
    else:
        print(table([{
            "id": one.id, "model": one.model_name, "data": one.data.get("name"),
            "config": str(one.config), "steps": len(one.rows),
            **{key: f"{one.before.get(key, float('nan')):.3f} → {value:.3f}"
               for key, value in one.after.items()},
            "stopped": one.stopped or "",
        } for one in found]))
    return DONE


def _drill(args) -> int:
    from ftkit.interview import terminal

    for name, high in (("new", 1000), ("minutes", 1440), ("questions", 100)):
        low = 0 if name == "new" else 1
        setattr(args, name, options.whole(f"--{name}", getattr(args, name), low, high))
    warnings.simplefilter("ignore", FutureWarning)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    return terminal.main(args)


COMMANDS = {"lab": _lab, "doctor": _doctor, "run": _run, "check": _check, "export": _export,
            "fetch": _fetch, "memory": _memory,
            "runs": _runs, "drill": _drill}
