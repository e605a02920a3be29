"""The `ftkit` command: calls the package and prints the results.

Progress goes to stderr and results to stdout, with --json as exactly one JSON object. Exit status:
0 done; 2 a mistake of the user (a UserError, or a path that cannot be used), reported in one
sentence; 3 `memory --gpu`: it does not fit, `export --check`: the file answers differently;
1 a failure of ftkit (FTKIT_DEBUG=1 shows its traceback); 130 interrupted; 143 ended by SIGTERM.
"""

import contextlib
import dataclasses
import errno
import gc
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from inspect import signature
from pathlib import Path
from typing import Any

from ftkit.base import files, formatting, machine, quiet
from ftkit.base.config import Config, DPOConfig
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.progress_bar import Bar
from ftkit.base.run_end import End, Stop
from ftkit.cli import doctor, jupyterlab, listing, options, playground, terminal_text
from ftkit.data import audit, convert, schema
from ftkit.data.jsonl import DataError, with_names
from ftkit.experiment import store, trackers
from ftkit.experiment.comparison import compare
from ftkit.model import download, loading
from ftkit.report import series
from ftkit.report.table import table

DISK = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES
DONE, FAILED, WRONG, DOES_NOT_FIT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
DIFFERENT = DOES_NOT_FIT


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    for name in ("stdout", "stderr"):  # None where the caller closed it (`>&-`)
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))
    for stream in (sys.stdout, sys.stderr):  # a console without "→" shows "?", not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    machine.prepare_for_torch()  # the kernels of `ftkit lab` inherit it
    args = None
    try:
        args = options.parse(argv)
        if args.command != "lab":  # its kernels inherit the environment
            quiet.mute_for_commands()
        status = COMMANDS[args.command](args)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else DONE
    except KeyboardInterrupt as stop:
        return _report(str(stop) or "interrupted", INTERRUPTED)
    except BrokenPipeError:  # `ftkit runs | head`
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # noqa: BLE001 - every failure becomes an exit status
        return _report_error(error, args)


def _report_error(error: Exception, args) -> int:
    debug = bool(os.environ.get("FTKIT_DEBUG"))
    if debug:
        traceback.print_exc()
    if isinstance(error, UserError):
        change = getattr(error, "change", None)  # of a run that does not fit: what would fit
        advice = "".join(f" --{name.replace('_', '-')} {value}"
                         for name, value in (change or {}).items()).lower()
        return _report(f"{error}. Add{advice}." if advice else str(error), WRONG)
    if isinstance(error, OSError) and _is_named(error.filename, args):
        name = formatting.show(str(error.filename), 80)
        return _report(f"{name}: {error.strerror}. Choose another.", WRONG)
    if (reason := files.why_not_written(error)) in [os.strerror(number) for number in DISK]:
        name = formatting.show(str(getattr(error, "filename", None) or "a file"), 80)
        return _report(f"{name} could not be written: {reason}. Free some disk space, or use "
                       "another folder.", WRONG)
    first_line = (str(error).strip().splitlines() or [""])[0]
    hint = "" if debug else " (FTKIT_DEBUG=1 shows where)"
    return _report(f"{type(error).__name__}: {first_line}{hint}", FAILED)


def _is_named(path, args) -> bool:
    """Whether the command line names this path or a folder above it."""
    given = {str(at_home(word)) for value in vars(args).values()
             for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)}
    return path is not None and not given.isdisjoint(map(str, (Path(path), *Path(path).parents)))


def _report(sentence: str, status: int) -> int:
    text, name = f"ftkit: {formatting.clean(sentence)}", terminal_text.colored(
        "ftkit:", terminal_text.RED if status else terminal_text.BOLD, sys.stderr)
    if terminal_text.is_terminal(sys.stderr):  # a pipe gets one line, whatever COLUMNS says
        text = terminal_text.wrapped(text, terminal_text.width(sys.stderr))
    print(name + text.removeprefix("ftkit:"), file=sys.stderr)
    return status


def _print(args, data: dict, text: str):
    """Print the result of a command: `data` with --json, else `text`."""
    print(json.dumps(data) if args.json
          else terminal_text.wrapped(formatting.printable(text), terminal_text.width()))


def _lab(args) -> int:
    jupyterlab.check_address(args.ip, args.port)
    folder, changes = jupyterlab.copy_lessons(args.folder, fresh=args.fresh)
    print(f"{jupyterlab.report(folder, changes)}\nTwo hours only? Open tour.ipynb. Other paths: "
          "ft.progress()", flush=True)
    jupyterlab.serve(folder, browser=not args.no_browser, port=args.port, ip=args.ip)
    return DONE


def _playground(args) -> int:
    print(playground.show(not args.no_browser))
    return DONE


def _doctor(args) -> int:
    result = doctor.examine()
    _print(args, result, doctor.report(result))
    return DONE if result["ok"] else FAILED


def _run(args) -> int:
    if args.resume:
        options.check_resume(args)
    else:
        options.check_objective(args)
    if args.log:
        trackers.check(args.log)
    config = options.config(args)
    if "smollm2" in (args.model, args.teacher) and not args.resume:
        _download_smollm2(args, config)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result alone
        # Everything that is read is checked here, before torch is even imported.
        experiment = _experiment(args, config)
        stored = None if args.again or args.resume else _stored_run(args, experiment, config)
        if stored is not None and args.out:
            _report(f"the same run is stored as {stored.id}, but without its weights: --out trains "
                    "it again", DONE)
            stored = None
        if args.torchrun or args.ranks or args.zero:
            gc.enable()
            data, text = _train_on_ranks(args, experiment, config)
        elif stored is not None:
            if args.log:
                trackers.write(stored, args.log)
            data, text = stored.to_dict(), _run_report(stored, args.log)
            _report(f"the same run is stored as {stored.id}, so nothing was trained; --again "
                    "trains it anew", DONE)
        else:
            bar, end = Bar("training", quiet=args.quiet), _EndAfterThisStep()
            if bar.terminal:  # a log needs no line that the next one replaces
                name = formatting.clean(experiment.model_name)
                bar.say(f"loading {name} and evaluating it before the first step")

            def on_start(run):
                gc.enable()
                end.run = run

            def on_row(row):
                shown = "reward" if "reward" in row else "loss"
                bar(row["step"] / end.run.total_steps,
                    f"step {row['step']}, {shown} {row[shown]:.3f}")

            how = {"on_start": on_start, "on_row": on_row, "stop": end, "live": False,
                   "out": args.out, "save_steps": args.save_steps, "sample": args.sample,
                   "log": args.log}
            try:
                with end:
                    run = (experiment.resume(args.resume, **how) if args.resume else
                           experiment.run(config, **how))
            finally:
                bar.close()
            data, text = run.to_dict(), _run_report(run, args.log)
    _print(args, data, text)
    if data.get("end") == End.INTERRUPTED:
        kept = "it was not stored, so it cannot continue"
        if store.has_ended(data["id"]):
            kept = (f"its rows are kept in {store.folder_of(data['id'])}, `ftkit run --resume "
                    f"{data['id']}` continues")
        return _report(f"{data['stopped']}; {kept}", TERMINATED if end.request else INTERRUPTED)
    return DONE


def _experiment(args, config):
    from ftkit.experiment.experiment import Experiment

    kinds = {}
    if args.objective or args.resume:
        from ftkit.experiment.distillation import EXPERIMENTS as kinds
    if args.resume:
        from ftkit.experiment import checkpoints

        stored = checkpoints.stored(args.resume)
        kind = kinds.get(type(stored.config), Experiment)
        return kind(**checkpoints.source_of(stored.id, next(iter(signature(kind).parameters))))
    kind = kinds.get(type(config), Experiment)
    needed = {name: value for name in options.NEEDED
              if (value := getattr(args, name)) is not None}
    probes = ["general"] if args.probes is None else [p for p in args.probes if p != "none"]
    return kind(**needed, model=args.model, data=_data(args, config), val=args.val, probes=probes,
                template=args.template)


def _data(args, config) -> str:
    return args.data or ("preferences" if isinstance(config, DPOConfig) else "translation")


class _EndAfterThisStep:
    """Handles SIGTERM, which containers and clusters send before they kill a process.

    As the `stop` callback of a run it ends the run after its step, so its weights can be saved.
    Before the first step, and on a second signal, SIGTERM acts like Ctrl-C. run: the Run, once it
    has begun.
    """

    def __init__(self):
        self.run: Any = None
        self.request: Stop | None = None

    def __call__(self) -> Stop | None:
        return self.request

    def __enter__(self):
        with contextlib.suppress(ValueError):  # signals are for the main thread
            self.before = signal.signal(signal.SIGTERM, self._end)
        return self

    def __exit__(self, *error):
        with contextlib.suppress(ValueError, AttributeError):
            signal.signal(signal.SIGTERM, self.before)

    def _end(self, number, frame):
        is_second = self.request is not None
        self.request = Stop(End.INTERRUPTED, "interrupted by SIGTERM")
        if self.run is None or is_second:
            raise KeyboardInterrupt


def _stored_run(args, experiment, config):
    """The newest finished run of this request, or None; never for a run on several ranks."""
    if args.torchrun or args.ranks or args.zero:
        return None
    candidates = store.finished(experiment.identity())
    if not candidates:
        return None
    resolved = experiment.model_facts().resolve(config)
    return next((run for run in reversed(candidates) if run.config == resolved), None)


def _train_on_ranks(args, experiment, config) -> tuple[dict, str]:
    if args.out:
        raise options.UsageError("--out cannot be combined with --ranks or --torchrun. To keep the "
                                 "tuned model, run `train.py --save` in the folder of --torchrun.")
    if args.sample or args.save_steps or args.log:
        raise options.UsageError("--sample, --save-steps and --log cannot be combined with --ranks "
                                 "or --torchrun. Leave them out.")
    if args.zero and not args.ranks:
        raise options.UsageError(f"--zero is {args.zero}, but the number of processes is not "
                                 "given. Add --ranks.")
    from ftkit.distributed import launch

    if args.torchrun:
        folder = launch.export(experiment, config, args.torchrun, ranks=args.ranks)
        start = f"torchrun --nproc-per-node {args.ranks or 2} {folder / 'train.py'}"
        return ({"folder": str(folder), "start": start},
                f"{folder} holds the run; start it with: {start}")
    run = launch.train(experiment, config, ranks=args.ranks,
                       zero=3 if args.zero is None else args.zero)
    assert isinstance(run, launch.RankRun)  # several stages would give a dict
    return run.to_dict(), str(run)


def _download_smollm2(args, config):
    if download.find("smollm2") is None:
        schema.records(_data(args, config))
        _fetch_with_bar("smollm2", args.quiet)


def _run_report(run, log: str | None = None) -> str:
    """A finished run as text: settings, a small table, a summary."""
    fraction = run.trainable_parameters / max(1, run.total_parameters)
    rows = [{"": key, "before": run.before[key], "after": run.after[key]}
            for key in run.after if key in run.before]
    records = formatting.number(run.data.get("rows", 0))
    lines = [
        f"{run.model_name} on {run.data.get('name', '?')} ({records} records), "
        f"{str(run.config) or 'all fields at their defaults'}",
        f"{run.last_step} steps in {run.seconds:.1f} s without evaluations, "
        f"{run.tokens_per_second:,.0f} tokens/s, "
        f"{run.trainable_parameters:,} parameters trained ({fraction:.1%})",
        "", table(rows).text(terminal_text.width()), "", series.summary(run), *_objective(run),
        *_samples(run),
        *(f"Note: {note}" for note in [*run.notes, *_short(run)]),
        *([f"Stored as run {run.id}"] if store.holds(run) else []),
        *([f"Saved to {run.saved_to}"] if run.saved_to else []),
        *([f"Logged as well; to see it: {trackers.how_to_open(log)}"] if log else []),
    ]
    return "\n".join(lines)


def _objective(run) -> list[str]:
    first, last = (run.rows[i] if run.rows else {} for i in (0, -1))
    shown = [f"{name} {first[name]:.3g} → {last[name]:.3g}" for name in MEASURED
             if name in first and name in last]
    return ["From the first step to the last: " + ", ".join(shown)] if len(shown) > 1 else []


MEASURED = ("reward", "dead", "accuracy", "margin", "chosen", "rejected", "kl", "entropy", "length")


def _samples(run) -> list[str]:
    if not run.samples:
        return []
    first, last = run.samples[0]["step"], run.samples[-1]["step"]
    answers = {(one["prompt"], one["step"]): one["answer"] for one in run.samples}
    return ["", repr(table([
        {"question": _cut(one["prompt"]), "reference": _cut(one["reference"]),
         f"answer at step {first}": _cut(one["answer"]),
         f"at step {last}": _cut(answers.get((one["prompt"], last), ""))}
        for one in run.samples if one["step"] == first]))]


def _short(run) -> list[str]:
    """A hint for a run of fewer than ten steps, such as one epoch of a small file."""
    if run.stopped or run.config.max_steps or run.last_step >= 10:
        return []
    return [f"only {_count(run.last_step, 'step')}; --epochs 20 or --max-steps 50 trains longer"]


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"  # --json has the whole text


def _memory(args) -> int:
    from ftkit.memory_use import footprint, model_shapes

    if args.models:
        names, gpus = model_shapes.names(), list(model_shapes.GPUS)
        _print(args, {"models": names, "gpus": gpus},
               "\n".join([*names, "", "GPUs: " + ", ".join(gpus)]))
        return DONE
    bar = Bar("memory")

    def progress(change: dict):
        if bar.terminal:
            changed = "".join(f", {name} {value}" for name, value in change.items())
            bar.say(formatting.clean(f"{args.model}{changed}"))

    progress({})
    with contextlib.closing(bar), contextlib.redirect_stdout(sys.stderr):
        result = footprint.memory(
            None, args.model, gpus=args.gpus, zero=args.zero, logits=args.logits,
            offload=args.offload, device=args.device, attention=args.attention,
            measure=args.measure, trainer=args.trainer, gpu=args.gpu,
            objective=args.objective or "sft", progress=progress, **options.given(args))
    _print(args, result.to_dict(), result.text(args.verbose))
    return DONE if result.verdict is None or result.verdict["fits"] else DOES_NOT_FIT


def _check(args) -> int:
    def found(name):
        is_sample = name in schema.sample_names() and not at_home(name).exists()
        return str(schema.sample_path(name)) if is_sample else name

    args.file, *args.against = map(found, [args.file, *(args.against or [])])
    for file in [args.file, *args.against]:  # before a tokenizer is loaded
        path = at_home(file)
        if path.is_dir() or not path.exists():
            schema.records(Path(file))  # raises
    tokenizer, max_length = None, args.max_length
    if args.model or max_length:
        model = args.model or "tiny"
        tokenizer = loading.load_tokenizer(model)
        max_length = max_length or min(loading.context(model), 512)
    result = audit.check(at_home(args.file), tokenizer=tokenizer, max_length=max_length,
                         against=args.against)
    result["mend"] = convert.mend(at_home(args.file), result, args.against)
    _print(args, result, "\n".join(_audit_report(result, args.file)))
    if result["errors"]:
        problems = [schema.Problem(**problem) for problem in result["errors"]]
        if args.json:
            return _report(DataError(args.file, problems).message(advice=False), WRONG)
        return _report(f"{args.file} has {_count(len(problems), 'error')}, listed in the "
                       "report", WRONG)
    return DONE


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _audit_report(result: dict, file: str) -> Iterable[str]:
    """Lines of the report on a checked file, with at most 20 errors and warnings each."""
    yield ", ".join([
        _count(result["rows"], "row"), _count(len(result["errors"]), "error"),
        _count(len(result["warnings"]), "warning"), _count(result["duplicates"], "duplicate"),
        _count(result["near_duplicates"], "near-duplicate"), _count(result["leaks"], "leak")])
    for kind in ("errors", "warnings"):
        lines: dict[tuple, list[int]] = {}  # (field, problem) → the lines that have it
        for problem in result[kind]:
            lines.setdefault((problem["field"], problem["problem"]), []).append(problem["row"])
        for (field, problem), (first, *others) in list(lines.items())[:20]:
            also = f" and {_count(len(others), 'more line')}" if others else ""
            yield (f"{kind[:-1]} line {first}{also}{f', {field}' if field else ''}: "
                   f"{with_names(problem, file)}")
        more = sum(map(len, list(lines.values())[20:]))
        if more:
            yield f"... and {more:,} more {kind} (--json has them all)"
    yield from (f"Note: {note}" for note in result["notes"])
    for name, lengths in result["lengths"].items():
        unit = "tokens" if name.endswith("tokens") else "characters"
        yield f"{name.removesuffix('_tokens')}, {unit}: " + ", ".join(
            f"{statistic} {number:,}" for statistic, number in lengths.items())
    if result["mend"]:
        lost = _count(result["mend"]["lost"], "row")
        yield with_names(f"To mend all of it, leaving out {lost} of {result['rows']:,}: "
                         f"`{result['mend']['command']}`", file)


def _convert(args) -> int:
    count, left_out = convert.write(args.file, args.out, args.tools, args.skip, dedup=args.dedup,
                                    suspect=args.suspect, against=args.against)
    _print(args, {"file": str(args.out), "records": count, "left_out": left_out},
           f"{args.out}: {_count(count, 'record')}"
           + (f"; {_count(left_out, 'row')} left out" if left_out else ""))
    return DONE


def _plan(args) -> int:
    from ftkit.experiment import plan

    config = options.config(args)
    if type(config) is not Config:
        raise options.UsageError(f"--objective is {args.objective}; a plan is made for sft only. "
                                 "Leave it out")
    usual = {"method": "lora", "epochs": 3.0}  # where no option says otherwise
    config = config.but(**{k: v for k, v in usual.items() if not hasattr(args, k)})
    if args.model == "smollm2" and download.find("smollm2") is None:
        _fetch_with_bar("smollm2", quiet=False)
    with contextlib.redirect_stdout(sys.stderr):
        result = plan.plan(args.file, config, args.model, val=args.val, template=args.template,
                           gpu=args.gpu, say=lambda cost: _report(cost, DONE))
    _print(args, result, plan.text(result))
    return DONE


def _diagnose(args) -> int:
    from ftkit.interview import log_causes

    result = log_causes.diagnose(args.file)
    _print(args, result, log_causes.text_of(result))
    return DONE


def _export(args) -> int:
    from ftkit.evaluate import parity
    from ftkit.model import export, gguf_file, loading

    out, is_gguf = at_home(args.out), args.out.rstrip("/\\").endswith("gguf")
    dtype = args.dtype or ("f16" if is_gguf else "fp32")
    if is_gguf != (dtype in gguf_file.TYPES) or (args.check is not None and not is_gguf):
        raise options.UsageError(f"{dtype if args.check is None else '--check'} does not go with "
                                 f"{args.out}; the name of a folder for GGUF (f16 or q8_0, which "
                                 "--check reads) ends in gguf, any other gets fp32, bf16 or fp16")
    only_check = args.check is not None and out.is_dir()
    with contextlib.redirect_stdout(sys.stderr):
        folder = out if only_check else export.export(args.source, out, dtype)
    size = sum(path.stat().st_size for path in folder.iterdir()
               if path.suffix in (".safetensors", ".gguf"))
    notes = loading.notes(str(at_home(args.source)))
    data = {"folder": str(folder), "dtype": dtype, "bytes": size, "notes": notes}
    text = f"{folder}: {formatting.gb(size)} in {dtype}, with README.md, its model card"
    if is_gguf:
        text += f"; `ollama create NAME -f {folder / 'Modelfile'}` adds it to Ollama"
    text = "\n".join([text, *(f"Note: {note}" for note in notes)])
    if args.check is not None:
        with contextlib.redirect_stdout(sys.stderr):
            data["check"] = parity.compare(args.source, folder, export.questions(
                args.source, args.check))
        text = "\n".join([*([] if only_check else [text]), parity.text_of(data["check"])])
    _print(args, data, text)
    wrong = {one["cause"] for one in data.get("check", {}).get("differences", [])} - {"rounding"}
    return DIFFERENT if wrong else DONE


def _push(args) -> int:
    from ftkit.model import push

    with contextlib.redirect_stdout(sys.stderr):
        page = push.push(args.folder, args.name, public=args.public)
    _print(args, {"page": page, "public": args.public}, f"{args.folder} is at {page}")
    return DONE


def _fetch(args) -> int:
    was_here = download.find(args.name) is not None
    folder = _fetch_with_bar(args.name, quiet=False)
    about = download.about(folder)
    _print(args, {"name": args.name, "folder": str(folder), "about": about, "was_here": was_here},
           f"{folder}: {about}")
    return DONE


def _fetch_with_bar(name: str, quiet: bool) -> Path:
    with contextlib.ExitStack() as shown, contextlib.redirect_stdout(sys.stderr):
        def progress(task):
            shown.close()  # the line of the task before
            bar = shown.enter_context(contextlib.closing(Bar(task, quiet=quiet)))
            bar.say()

        return download.fetch(name, progress)


def _runs(args) -> int:
    listing.check_limit(args.ids, args.where, args.sort, args.limit)
    runs = [run for id in args.ids for run in playground.stored(id)] or store.list_runs()
    every = len(runs)
    if args.ids:
        text = "\n\n".join(map(_run_report, runs))
        if len(runs) > 1 and not args.json:
            text += f"\n\n{compare(*runs)}"
    elif not runs:
        text = f"No runs in {machine.home() / 'runs'} yet; `ftkit run` makes the first."
    else:
        runs = listing.chosen(runs, args.where, args.sort, None)
        every, limit = len(runs), args.limit or (None if args.json else listing.ROWS)
        runs = listing.chosen(runs, None, args.sort, limit)
        text = (listing.text(runs, every - len(runs), terminal_text.width()) if runs
                else f"No run is one with {args.where}; `ftkit runs` lists all")
    if args.report:
        from ftkit.experiment import run_report

        text = f"Written to {run_report.run_report(runs).save(args.report)}"
    _print(args, {"runs": [each.to_dict() for each in runs]}, text)
    return DONE


def _drill(args) -> int:
    from ftkit.interview import terminal

    return terminal.main(args)


def _race(args) -> int:
    from ftkit.experiment import race

    entries = [race.read(file) for file in args.files]  # all, before the first one is trained
    with contextlib.redirect_stdout(sys.stderr):
        results = [race.run(entry, args.first_seed) for entry in entries]
    rows = race.standings(results)
    _print(args, {"standings": rows, "results": [dataclasses.asdict(each) for each in results]},
           table(rows).text(terminal_text.width()))
    return DONE


def _grade(args) -> int:
    from ftkit.interview import grading

    rows = grading.grade(args.folder, args.seconds)
    _print(args, {"notebooks": rows}, table(rows).text(terminal_text.width()))
    return DONE


def _mcp(args) -> int:
    from ftkit.cli import tutor

    tutor.serve()
    return DONE


COMMANDS = {"lab": _lab, "playground": _playground, "doctor": _doctor, "run": _run, "check": _check,
            "convert": _convert, "plan": _plan, "diagnose": _diagnose, "export": _export,
            "push": _push, "fetch": _fetch, "memory": _memory, "runs": _runs, "drill": _drill,
            "race": _race, "grade": _grade, "mcp": _mcp}
