"""What can be asked on the command line: the parser of `ftkit`, and its complaints.

    args = parser().parse_args(["run", "--data", "translation"])
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re

from ftkit.base.config import Config
from ftkit.base.errors import UserError


class UsageError(UserError):
    """The command line itself is wrong."""


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
            known = [o for o in self._option_string_actions if o.startswith("--") and o != word]
            message = f"unknown option {word}" if word.startswith("-") else (
                f"{word!r} is one word too many")
        elif wrong:
            word = wrong[1]
            known = list(self._subparsers._group_actions[0].choices)
            message = f"no command {word!r}"
        near = [name for name in known or () if _initials(name) == word] or (
            difflib.get_close_matches(word, known, n=2, cutoff=0.5) if word else [])
        if near:
            message += f"; did you mean {' or '.join(near)}?"
        raise UsageError(f"{message.rstrip('.')}{'' if near else ';'} see `{self.prog} --help`")

    def parse_known_args(self, args=None, namespace=None):
        # Told here rather than by the parser above, which does not know this command's options.
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left


def _initials(option: str) -> str:
    """--learning-rate → --lr."""
    return "--" + "".join(word[0] for word in option.split("-") if word)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """What a command line asks; UsageError if it cannot be understood."""
    args = parser().parse_args(words)
    for name, value in vars(args).items():
        if any(isinstance(v, str) and not v.strip()
               for v in (value if isinstance(value, list) else [value])):
            raise UsageError(f"{name.replace('_', '-')} is empty; give a value or leave it out")
    return args


def parser() -> argparse.ArgumentParser:
    from ftkit import __version__

    top = _Parser(prog="ftkit", description="Learn to fine-tune language models by doing it.")
    top.add_argument("--version", action="version", version=f"ftkit {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def command(name, help):
        return commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")

    lab = command("lab", "open your own copy of the lessons in JupyterLab")
    lab.add_argument("folder", nargs="?", default="ftkit-lessons", metavar="DIR",
                     help="where your copy is or shall be (default: ./ftkit-lessons)")
    lab.add_argument("--fresh", action="store_true",
                     help="make a new folder with the lessons as they were")
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--port", metavar="N", help="default: 8888 or the next free one")
    lab.add_argument("--ip", metavar="ADDRESS", default="127.0.0.1",
                     help="who may reach it: 0.0.0.0 for everyone, as in a container (default: "
                          "127.0.0.1, this machine only)")

    doctor = command("doctor", "what this machine is, what it can run, what is missing")
    _json_option(doctor)

    run = command("run", "fine-tune once and tell what happened")
    _run_options(run)

    check = command("check", "look a data file over before it is trained on")
    check.add_argument("file", metavar="FILE", help="JSON Lines")
    check.add_argument("--against", metavar="FILE", action="append",
                       help="count the rows that leak from this file (repeatable)")
    check.add_argument("--model", metavar="NAME", help="count tokens with this model's tokenizer")
    check.add_argument("--max-length", metavar="N",
                       help="find the records that are too long (default with --model: its own)")
    _json_option(check)

    export = command("export", "merge an adapter into its base, as a model for other programs")
    export.add_argument("source", metavar="DIR", help="what `ftkit run --out` or peft has saved")
    export.add_argument("out", metavar="OUT", help="a new folder for the whole model")
    export.add_argument("--dtype", default="fp32", metavar="NAME",
                        help="fp32, bf16 or fp16: how the weights are stored (default: fp32)")
    _json_option(export)

    fetch = command("fetch", "get a real model: smollm2")
    fetch.add_argument("name", metavar="NAME", help="smollm2: SmolLM2-135M-Instruct, about 0.3 GB")
    _json_option(fetch)

    memory = command("memory", "what a training step needs, before it is run")
    _memory_options(memory)

    drill = command("drill", "practise interview questions: cards, proofs, a mock interview")
    drill.add_argument("--level", metavar="NAME", help="junior, mid, senior or staff (a,b: both)")
    drill.add_argument("--topic", metavar="NAME", help="such as LoRA or memory; your misses")
    drill.add_argument("--new", metavar="N", default="10", help="new cards at most (default: 10)")
    drill.add_argument("--interview", action="store_true", help="a timed mock interview instead")
    drill.add_argument("--minutes", metavar="N", default="20", help="of the interview")
    drill.add_argument("--questions", metavar="N", default="6", help="of the interview")
    drill.add_argument("--list", action="store_true", help="list the questions and their ids")
    drill.add_argument("--prove", metavar="ID", help="run what proves the answer of a question")
    drill.add_argument("--export", metavar="FILE", help="write the cards: .csv for Anki, or .json")
    drill.add_argument("--cheat-sheet", metavar="FILE",
                       help="write an HTML page to print, its numbers computed now")

    runs = command("runs", "list the runs so far, or show some of them")
    runs.add_argument("ids", nargs="*", metavar="ID", help="an id or its beginning")
    _json_option(runs)
    return top


def _json_option(parser):
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _memory_options(parser):
    what = parser.add_argument_group("of what")
    what.add_argument("--model", default="tiny", metavar="NAME",
                      help="tiny (default), smollm2, a known hub id or its short name such as "
                           "llama-2-7b (--models lists them), a folder, a config.json, or a number "
                           "of parameters such as 7.5B (its states only)")
    what.add_argument("--gpus", default="1", metavar="N", help="that share the work (default: 1)")
    what.add_argument("--zero", default="0", metavar="STAGE",
                      help="what GPUs divide: 0 nothing (default), 1 optimizer states, 2 gradients "
                           "too, 3 parameters too")
    what.add_argument("--offload", action="store_true",
                      help="optimizer states in the memory of the host")
    what.add_argument("--device", metavar="NAME",
                      help="whose rules hold, cpu or cuda (default: this machine's for a model "
                           "that is here, else cuda)")
    what.add_argument("--attention", metavar="NAME",
                      help="sdpa or eager: transformers' own, on padded batches, in place of ours")
    what.add_argument("--logits", metavar="N", help="most logits held at once by the loss")
    what.add_argument("--measure", action="store_true",
                      help="take one real step here beside it (tiny, smollm2 or a folder)")
    _config_options(parser)
    out = parser.add_argument_group("what comes out")
    out.add_argument("--models", action="store_true", help="list the known models and GPUs")
    _json_option(out)


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
    _config_options(parser)
    several = parser.add_argument_group("on several processes")
    several.add_argument("--ranks", metavar="N",
                         help="divide the run among N processes of this machine")
    several.add_argument("--zero", metavar="STAGE",
                         help="what they divide, with --ranks: 0 nothing, 1 optimizer states, 2 "
                              "gradients too, 3 parameters too (default: 3)")
    several.add_argument("--torchrun", metavar="DIR",
                         help="do not run: write the run as a folder that torchrun starts, on any "
                              "number of machines")
    out = parser.add_argument_group("what comes out")
    out.add_argument("--out", metavar="DIR", help="save the adapter or model there")
    _json_option(out)
    out.add_argument("--quiet", action="store_true", help="no progress bar")


def _config_options(parser):
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


def whole(option: str, text: str, low: int, high: int | None = None) -> int:
    try:
        number = int(text)
        if number >= low and (high is None or number <= high):
            return number
    except ValueError:
        pass
    most = "" if high is None else f" and at most {high}"
    raise UsageError(f"{option} is {text!r}; expected a whole number of at least {low}{most}")
