"""The `ftkit` command: thin words around the package.

Exit status: 0 done, 2 the input was wrong (one sentence on stderr), 130 interrupted (what was
done so far is kept), 1 a failure of ours (FTKIT_DEBUG=1 shows where).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import warnings

from ftkit.config import Config


class _Parser(argparse.ArgumentParser):
    """argparse, except that a wrong option is one sentence and not a page of usage."""

    def error(self, message):
        self.exit(2, f"ftkit: {message}; `{self.prog} --help` lists what is accepted\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(argv)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        return options.command(options) or 0
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except BrokenPipeError:  # `ftkit runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ValueError as error:
        if os.environ.get("FTKIT_DEBUG") == "1" or not _ours(error):
            return _crash(error)
        return _fail(2, error)
    except Exception as error:
        return _crash(error)


def _ours(error: BaseException) -> bool:
    """True for a ValueError that ftkit raised itself: it is about the input."""
    step = error.__traceback__
    while step.tb_next:
        step = step.tb_next
    return step.tb_frame.f_globals.get("__name__", "").split(".")[0] == "ftkit"


def _fail(status: int, message) -> int:
    print("ftkit: " + " ".join(str(message).split()), file=sys.stderr)
    return status


def _crash(error: BaseException) -> int:
    if os.environ.get("FTKIT_DEBUG") == "1":
        raise error
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _fail(1, f"failed: {what[:500]} (FTKIT_DEBUG=1 shows where)")


# ------------------------------------------------------------------------------------ options


def _parser() -> argparse.ArgumentParser:
    from ftkit import __version__

    parser = _Parser(prog="ftkit", description="Learn to fine-tune language models by doing it.")
    parser.add_argument("--version", action="version", version=f"ftkit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name, work, help, as_json=True):
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(command=work)
        if as_json:
            made.add_argument("--json", action="store_true", help="print one JSON object")
        return made

    lab = command("lab", _lab, "open the lessons in JupyterLab", as_json=False)
    lab.add_argument("dir", nargs="?", help="folder for your copy of the lessons (ftkit-lessons)")
    lab.add_argument("--fresh", action="store_true", help="a new copy beside the one you edited")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead")
    lab.add_argument("--port", type=int, default=8888, help="first port to try")

    command("doctor", _doctor, "what this machine is, what it can run, what is missing")

    run = command("run", _run, "one fine-tuning run")
    run.add_argument("--model", default="tiny", help="tiny, smollm2, a folder or a hub id")
    run.add_argument("--data", default="translation", metavar="NAME|FILE",
                     help="records to train on: a sample or a JSONL file")
    run.add_argument("--val", metavar="NAME|FILE", help="records for val_loss")
    run.add_argument("--probe", action="append", metavar="NAME|FILE",
                     help="more records to watch; may be repeated (general)")
    run.add_argument("--out", metavar="DIR", help="save the adapter or model there")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_config(run)

    check = command("check", _check, "what is wrong with a data file, line by line")
    check.add_argument("file")
    check.add_argument("--against", metavar="FILE", help="tell records that are in FILE as well")
    check.add_argument("--model", help="count lengths in the tokens of this model")

    fetch = command("fetch", _fetch, "get a model that needs no account", as_json=False)
    fetch.add_argument("name", help="smollm2")

    runs = command("runs", _runs, "what you have run so far")
    runs.add_argument("id", nargs="*", help="runs to show (the beginning of an id is enough)")
    return parser


def _add_config(parser):
    group = parser.add_argument_group("what varies (the fields of Config)")
    for field in dataclasses.fields(Config):
        flag, kind = "--" + field.name.replace("_", "-"), str(field.type)
        text = field.metadata["help"]
        if field.metadata["choices"]:
            text += f": {', '.join(field.metadata['choices'])}"
        if field.default is not None:
            text += f" ({field.default})"
        if kind.startswith("bool"):
            group.add_argument(flag, dest=field.name, default=field.default, help=text,
                               action=argparse.BooleanOptionalAction)
        else:  # Config itself turns the text into a number, and says what it accepts
            name = "N" if kind.startswith(("int", "float")) else "WORD"
            group.add_argument(flag, dest=field.name, metavar=name, default=field.default,
                               help=text)


# ----------------------------------------------------------------------------------- commands


def _run(options) -> int:
    config = Config(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Config)})
    from ftkit.experiment import Experiment

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result alone
        lab = Experiment(model=options.model, data=options.data, val=options.val,
                         probes=options.probe or ("general",))
        with _Progress(options.quiet) as progress:
            done = lab.run(config, on_start=progress.start, on_row=progress.row, live=False,
                           out=options.out)
    if options.json:
        print(json.dumps(done.to_dict()))
    else:
        print(_report(done))
    if (done.stopped or "").startswith("interrupted"):
        return _fail(130, f"{done.stopped}; `ftkit runs {done.id}` has what was done")
    return 0


class _Progress:
    """A bar on stderr."""

    def __init__(self, quiet: bool):
        self.quiet, self.bar = quiet, None

    def __enter__(self):
        if not self.quiet:
            print("loading ...", end="\r", file=sys.stderr, flush=True)
        return self

    def start(self, run):
        """The number of steps is known."""
        if not self.quiet:
            from tqdm import tqdm

            self.bar = tqdm(total=run.total_steps, unit="step", file=sys.stderr,
                            dynamic_ncols=True, mininterval=0.5)

    def row(self, row: dict):
        """A step is done."""
        if self.bar is None:
            return
        shown = {"loss": f"{row['loss']:.3f}"}
        shown |= {k: f"{v:.3f}" for k, v in row.items() if k.endswith("_loss")}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()


def _report(done) -> str:
    lines = [f"run {done.id}: {done.model_name} on {done.data['name']}, {done.config.method}, "
             f"learning rate {done.config.learning_rate:g}, {len(done.rows)} steps in "
             f"{done.seconds:.1f} s ({done.tokens_per_second:,.0f} tokens/s)",
             f"{done.trainable_parameters:,} of {done.total_parameters:,} parameters trained"]
    width = max([len(k) for k in done.after] + [6])
    lines += [f"{'':{width}}  {'before':>8}  {'after':>8}  {'change':>8}"]
    lines += [f"{k:{width}}  {done.before[k]:8.3f}  {done.after[k]:8.3f}  {done.change(k):+8.3f}"
              for k in done.after if k in done.before]
    cut = [f"{done.data[k]} records {k}" for k in ("truncated", "skipped") if done.data.get(k)]
    lines += ["; ".join(cut)] if cut else []
    lines += [f"stopped: {done.stopped}"] if done.stopped else []
    lines += [f"saved to {done.saved_to}"] if done.saved_to else []
    return "\n".join([*lines, done.summary()])


def _check(options) -> int:
    from ftkit import data

    tokenizer = None
    if options.model:
        from ftkit import models

        tokenizer = models.load_tokenizer(options.model)
    found = data.check(options.file, tokenizer=tokenizer, against=options.against)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{options.file}: {found['rows']:,} records, {len(found['errors'])} errors, "
              f"{len(found['warnings'])} warnings, {found['duplicates']} duplicates, "
              f"{found['near_duplicates']} near duplicates, {found['leaks']} leaks")
        for kind in ("errors", "warnings"):
            for item in found[kind][:50]:
                field = f", field {item['field']!r}" if item["field"] else ""
                print(f"  {kind[:-1]}: line {item['row']}{field}: {item['problem']}")
            if len(found[kind]) > 50:
                print(f"  and {len(found[kind]) - 50} more {kind}; --json lists them all")
    return 2 if found["errors"] else 0


def _runs(options) -> int:
    from ftkit import run

    if not options.id:
        everything = run.list_runs()
        if options.json:
            print(json.dumps([_without_rows(one) for one in everything]))
        for one in [] if options.json else everything:
            print(one)
        if not everything and not options.json:
            print("no runs yet; `ftkit run` makes one")
        return 0
    found = [run.load_run(id) for id in options.id]
    if options.json:
        print(json.dumps([one.to_dict() for one in found] if len(found) > 1
                         else found[0].to_dict()))
    else:
        print("\n\n".join(map(_report, found)))
    return 0


def _without_rows(one) -> dict:
    return {k: v for k, v in one.to_dict().items() if k != "history"}


def _doctor(options) -> int:
    from ftkit import doctor

    lines = doctor.examine()
    if options.json:
        print(json.dumps({"checks": [line._asdict() for line in lines],
                          "ok": all(line.ok for line in lines)}))
    else:
        for line in lines:
            print(f"{'ok ' if line.ok else '!! '} {line.what:14} {line.found}"
                  + (f"\n{'':18}→ {line.advice}" if line.advice else ""))
    return 0


def _fetch(options) -> int:
    from ftkit import fetch

    folder = fetch.fetch(options.name, say=lambda text: print(text, file=sys.stderr, flush=True))
    print(folder)
    return 0


def _lab(options) -> int:
    from ftkit import lab

    return lab.open_lessons(options.dir, fresh=options.fresh, browser=not options.no_browser,
                            port=options.port)


if __name__ == "__main__":
    sys.exit(main())
