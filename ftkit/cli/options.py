"""The options of the `ftkit` command, and its messages about a wrong command line.

    args = parse(["run", "--data", "translation"])
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from collections.abc import Callable

from ftkit.base.config import OBJECTIVES, Config, for_objective
from ftkit.base.config_fields import fields_of, grouped, kinds_of
from ftkit.base.errors import UserError
from ftkit.cli import terminal_text

METAVARS = {int: "N", float: "X", bool: "true|false"}
ZERO_STAGES = ("0 none, 1 optimizer states, 2 gradients too, 3 parameters too "
               "(default: {default})")


class UsageError(UserError):
    """The command line itself is wrong."""


class _Help(argparse.HelpFormatter):
    """Bold headings on a terminal; lines are not broken at hyphens, as in `./ftkit-lessons`."""

    def start_section(self, heading):
        super().start_section(heading and terminal_text.colored(heading, terminal_text.BOLD))

    def _split_lines(self, text, width):
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError and suggests the nearest known name."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=_Help, **options)

    def parse_args(self, args=None, namespace=None):
        # argparse reads `--sort -val_loss` as two options.
        words = list(sys.argv[1:] if args is None else args)
        for place in reversed(range(len(words) - 1)):
            if words[place] == "--sort" and re.match(r"-[a-z]", words[place + 1]):
                words[place:place + 2] = [f"--sort={words[place + 1]}"]
        return super().parse_args(words, namespace)

    def error(self, message):
        unknown = re.match(r"unrecognized arguments: ([^\s=]+)", message)
        wrong_command = re.match(r"argument COMMAND: invalid choice: '?([^' ]*)'? (.*)", message)
        word, known = "", []
        if unknown:
            word, known = unknown[1], list(self._option_string_actions)
            message = (f"unknown option {word}" if word.startswith("-")
                       else f"{word!r} is one word too many")
        elif wrong_command:
            word, known = wrong_command[1], re.findall(r"\b[a-z]+\b", wrong_command[2])
            message = f"no command {word!r}"
            if word in ELSEWHERE:
                raise UsageError(f"{message}. {ELSEWHERE[word]}.")
        elif message.endswith("required: COMMAND"):
            message = "no command is given; expected one such as lab (the lessons), run or check"
        message = re.sub(r"^argument (--\S+): is ", r"\1 is ", message).rstrip(".")
        near = [name for name in known if _initials(name) == word] or (
            difflib.get_close_matches(word, known, n=2, cutoff=0.5))
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise UsageError(f"{message}{hint} See `{self.prog} --help`.")

    def parse_known_args(self, args=None, namespace=None):
        # The top parser does not know the options of a command and cannot suggest one.
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


# Commands that people expect, and what to use instead.
ELSEWHERE = {
    "interview": "The mock interview is `ftkit drill --interview`",
    "mock": "The mock interview is `ftkit drill --interview`",
    "clinic": "`ftkit drill --clinic` shows runs that went wrong",
    "lessons": "`ftkit lab` opens the lessons",
    "compare": "`ftkit runs ID ID` shows how runs differ",
    "chat": "`ftkit run --sample 5` shows answers before and after a run",
    "ask": "`ftkit run --sample 5` shows answers before and after a run",
}


def _initials(option: str) -> str:
    """--learning-rate -> --lr."""
    return "--" + "".join(word[0] for word in option.split("-") if word)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options of a command line. Raises UsageError if it is wrong."""
    args = parser().parse_args(words)
    for name, value in vars(args).items():
        if any(isinstance(v, str) and not v.strip()
               for v in (value if isinstance(value, list) else [value])):
            raise UsageError(f"{name.replace('_', '-')} is empty. Give it a value, or leave it "
                             "out.")
    return args


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`."""
    def convert(text: str) -> int:
        try:
            number = int(text)
            if number >= low and (high is None or number <= high):
                return number
        except ValueError:
            pass
        limit = "" if high is None else f" and at most {high}"
        raise argparse.ArgumentTypeError(
            f"is {text!r}; expected a whole number of at least {low}{limit}")

    return convert


def parser() -> argparse.ArgumentParser:
    """The parser of `ftkit` with all its commands."""
    from ftkit import __version__

    top = _Parser(prog="ftkit", description="Learn to fine-tune language models by doing it.")
    top.add_argument("--version", action="version", version=f"ftkit {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for add in (_lab, _playground, _doctor, _run, _check, _convert, _diagnose, _export, _fetch,
                _memory, _drill, _runs, _mcp):
        add(commands)
    return top


def _command(commands, name: str, help: str, json: bool = True, **options) -> _Parser:
    made = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.",
                               **options)
    if json:
        made.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return made


def _lab(commands):
    lab = _command(commands, "lab", "open your own copy of the lessons in JupyterLab", json=False)
    lab.add_argument("folder", nargs="?", default="ftkit-lessons", metavar="DIR",
                     help="folder of your copy, created if needed (default: ./ftkit-lessons)")
    lab.add_argument("--fresh", action="store_true",
                     help="create a new folder with the unchanged lessons")
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--port", type=whole_number(1, 65535), metavar="N",
                     help="default: 8888, or the next free port")
    lab.add_argument("--ip", metavar="ADDRESS", default="127.0.0.1",
                     help="address to bind: 127.0.0.1 for this machine only (default), 0.0.0.0 for "
                          "all networks, as in a container")


def _playground(commands):
    page = _command(commands, "playground",
                    "fine-tune the embedded model in a browser tab, without JupyterLab", json=False)
    page.add_argument("--no-browser", action="store_true", help="only print the address")


def _doctor(commands):
    _command(commands, "doctor", "check this machine, its packages and the lessons")


def _run(commands):
    groups = _groups(_command(commands, "run", "fine-tune a model once and report the result",
                              usage="ftkit run [OPTION ...]"))
    add = groups["Data"].add_argument
    add("--model", default="tiny", metavar="NAME",
        help="tiny (default), smollm2, a folder, or a hub id")
    add("--data", metavar="NAME|FILE",
        help="a sample or a JSONL file (default: translation; preferences for an objective on "
             "pairs)")
    add("--val", metavar="FILE",
        help="validation records (default: the sample's, else a tenth of the data)")
    groups["Evaluation"].add_argument(
        "--probe", action="append", metavar="NAME|FILE", dest="probes",
        help="extra evaluation records; their loss is measured during the run (repeatable; "
             "default: general; none: no extra records)")
    groups["Evaluation"].add_argument(
        "--sample", metavar="N", default=0, type=whole_number(0, 1000),
        help="answer N validation records at each evaluation and show the answers (default: 0)")
    add("--template", metavar="NAME|TEXT",
        help="template that turns a record into text: auto, chat, plain, alpaca, or a text with "
             "{instruction}, {input} and {output} (default: the model's own)")
    _config_options(groups)
    add = groups["Objective"].add_argument
    add("--reward", metavar="NAME",
        help="reward of an answer, for grpo and rloo: exact, contains or number, or your function "
             "module:function of (answer, record), in a module of this folder")
    add("--teacher", metavar="NAME", help="model to learn from, for distill: as --model")
    add = groups["System"].add_argument
    add("--ranks", metavar="N", type=whole_number(1, 64),
        help="split the run across N processes on this machine")
    add("--zero", metavar="STAGE", type=whole_number(0, 3),
        help="which states are sharded across the ranks: " + ZERO_STAGES.format(default=3))
    add("--torchrun", metavar="DIR",
        help="do not train; write a folder that torchrun can start on any number of machines")
    add("--out", metavar="DIR", help="save the adapter or model in this folder")
    add("--save-steps", metavar="N", default=0, type=whole_number(0),
        help="steps between checkpoints for --resume; a checkpoint holds the trained weights and "
             "the optimizer's state (default: 0, only on an interrupt)")
    add("--resume", metavar="ID",
        help="continue a run that was interrupted or killed; can be combined only with --out, "
             "--save-steps, --sample, --log, --quiet and --json")
    add("--again", action="store_true",
        help="train even if the same run is stored (default: report the stored run)")
    add("--log", metavar="NAME",
        help="also log to tensorboard or trackio (pip install 'ftkit[NAME]')")
    add("--quiet", action="store_true", help="no progress bar")


def _check(commands):
    check = _command(commands, "check", "check a data file before training on it")
    check.add_argument("file", metavar="FILE",
                       help="a sample, or a .jsonl, .json, .csv, .tsv, .txt or .parquet file")
    check.add_argument("--against", metavar="FILE", action="append",
                       help="count the rows that also occur in this file (repeatable)")
    check.add_argument("--model", metavar="NAME", help="count tokens with this model's tokenizer")
    check.add_argument("--max-length", metavar="N", type=whole_number(2),
                       help="report records with more tokens (default with --model: its context, "
                            "at most 512)")


def _convert(commands):
    convert = _command(commands, "convert", "write a data file of another tool as JSON Lines")
    convert.add_argument("file", metavar="FILE", help="a .json, .csv, .parquet, ... or .jsonl file")
    convert.add_argument("out", metavar="NEW", help="the new file, NAME.jsonl")
    convert.add_argument("--tools", choices=("text",),
                         help="text: write functions and calls as text, as Hermes models do")
    convert.add_argument("--skip", action="store_true",
                         help="leave out the rows that cannot be trained on")
    convert.add_argument("--dedup", action="store_true",
                         help="leave out the rows that repeat an earlier one, nearly or exactly")
    convert.add_argument("--suspect", action="store_true",
                         help="leave out personal data, keys, and empty or truncated answers")
    convert.add_argument("--against", metavar="FILE", action="append",
                         help="leave out the rows whose prompt occurs in this file (repeatable)")


def _diagnose(commands):
    diagnose = _command(commands, "diagnose", "name what may be wrong with a run, from its log")
    diagnose.add_argument("file", metavar="FILE",
                          help="trainer_state.json, a log as .jsonl, .csv or printed rows, or a "
                               "folder of TensorBoard; exports of W&B and trackio")


def _export(commands):
    export = _command(commands, "export",
                      "merge an adapter into its base model, for use in other programs")
    export.add_argument("source", metavar="DIR", help="the folder that `ftkit run --out` or peft "
                                                      "saved")
    export.add_argument("out", metavar="OUT",
                        help="a new folder for the merged model; if its name ends in gguf, it gets "
                             "model.gguf and a Modelfile, for llama.cpp and Ollama")
    export.add_argument("--dtype", metavar="NAME",
                        help="number format of the weights: fp32, bf16 or fp16 (default: fp32), "
                             "for GGUF f16 or q8_0 (default: f16)")
    export.add_argument("--check", nargs="?", const="auto", metavar="FILE",
                        help="answer 20 prompts of a sample or file with transformers and with the "
                             "GGUF file, and name the first difference and its cause; an OUT that "
                             "exists is only checked. Exit status 3: a cause besides rounding")


def _fetch(commands):
    fetch = _command(commands, "fetch", "download a pretrained model: smollm2")
    fetch.add_argument("name", metavar="NAME", help="smollm2: SmolLM2-135M-Instruct, about 0.3 GB")


def _memory(commands):
    groups = _groups(_command(commands, "memory", "predict the memory of a training step",
                              usage="ftkit memory [OPTION ...]"))
    add = groups["Data"].add_argument
    add("--model", default="tiny", metavar="NAME",
        help="tiny (default), smollm2, a known hub id or its short name such as llama-2-7b, a "
             "folder, a config.json, or a number of parameters such as 7.5B (only its weights, "
             "gradients and optimizer states)")
    add("--models", action="store_true", help="list the known models and GPUs")
    _config_options(groups)
    add = groups["System"].add_argument
    add("--gpu", metavar="NAME|SIZE",
        help="check whether the step fits this GPU, such as \"RTX 4090\" or 24GB (exit status 0: "
             "it fits, 3: it does not), and report the largest batch and possible changes")
    add("--trainer", default="ftkit", metavar="NAME",
        help="whose training step: ftkit (default), or hf (transformers' Trainer)")
    add("--gpus", default=1, metavar="N", type=whole_number(1, 2**20),
        help="number of GPUs (default: 1)")
    add("--zero", default=0, metavar="STAGE", type=whole_number(0, 3),
        help="which states are sharded across the GPUs: " + ZERO_STAGES.format(default=0))
    add("--offload", action="store_true", help="keep optimizer states in the host's memory")
    add("--device", metavar="NAME",
        help="cpu or cuda (default: this machine's for a model stored here, else cuda)")
    add("--attention", metavar="NAME",
        help="sdpa or eager: transformers' attention on padded batches, instead of ftkit's")
    add("--logits", metavar="N", type=whole_number(1),
        help="largest number of logits that the loss computes at a time")
    add("--verbose", action="store_true", help="also print what the prediction assumes")
    add("--measure", action="store_true",
        help="also measure one real step on this machine (tiny, smollm2 or a folder)")


def _drill(commands):
    drill = _command(commands, "drill",
                     "practice interview questions: cards, proofs, a mock interview", json=False)
    drill.add_argument("--level", metavar="NAME",
                       help="junior, mid, senior or staff; several: junior,mid")
    drill.add_argument("--topic", metavar="NAME",
                       help="a topic, such as LoRA or memory; also: your misses, your cards")
    drill.add_argument("--new", metavar="N", default=10, type=whole_number(0, 1000),
                       help="maximum number of new cards (default: 10)")
    drill.add_argument("--interview", action="store_true", help="hold a timed mock interview")
    drill.add_argument("--clinic", action="store_true",
                       help="diagnose runs that went wrong from what a colleague would send")
    drill.add_argument("--rounds", metavar="NAME",
                       help="rounds of the interview: concept, coding, design, story (default: "
                            "all); several: concept,coding")
    drill.add_argument("--minutes", metavar="N", type=whole_number(1, 1440),
                       help="length of the drill (default: no limit) or of the interview "
                            "(default: the clocks of its questions)")
    drill.add_argument("--questions", metavar="N", default=6, type=whole_number(1, 100),
                       help="concept questions in the interview (default: 6)")
    drill.add_argument("--list", action="store_true", help="list the questions and their ids")
    drill.add_argument("--prove", metavar="ID", help="run the proof of a question's answer")
    drill.add_argument("--cards", metavar="FILE",
                       help='your own cards, one {"front": "question", "back": "answer"} per line '
                            "(default: cards.jsonl in your ftkit home)")
    drill.add_argument("--suspended", action="store_true", help="list the suspended cards")
    drill.add_argument("--resume", metavar="CARD", help="ask a suspended card again")
    drill.add_argument("--export", metavar="FILE", help="write the cards: .csv for Anki, or .json")
    drill.add_argument("--cheat-sheet", metavar="FILE",
                       help="write a printable page (HTML) with numbers computed now")


def _runs(commands):
    runs = _command(commands, "runs", "list all runs, or show some of them")
    runs.add_argument("ids", nargs="*", metavar="ID",
                      help="the id of a run, or its beginning; or a .json file of runs that the "
                           "playground exported, which are added")
    runs.add_argument("--where", metavar="TERMS",
                      help="only runs for which all terms hold, such as \"method=lora "
                           "val_loss<0.5\"; a word searches names and settings")
    runs.add_argument("--sort", metavar="NAME",
                      help="sort by a measure or a field, such as val_loss; -val_loss: largest "
                           "first (default: by time, newest last)")
    runs.add_argument("--limit", metavar="N", type=whole_number(1),
                      help="at most N runs (default: 20 as text, all with --json)")


def _mcp(commands):
    _command(commands, "mcp", "serve tools for your AI assistant: lessons, hints, cards, runs",
             json=False)


def _groups(parser: _Parser) -> dict:
    """Group of fields -> its section in the help."""
    titles = {"Data": "model and data", "Method": "method (names as in peft)",
              "Optimization": "optimization (names as in transformers)",
              "Objective": "objective (names as in TRL)",
              "Evaluation": "evaluation", "System": "system"}
    return {group: parser.add_argument_group(title) for group, title in titles.items()}


def _config_options(groups: dict):
    """Add an option per field of a Config; the namespace lacks the options that are not given."""
    groups["Objective"].add_argument(
        "--objective", metavar="NAME", help=f"{', '.join(OBJECTIVES)} (default: sft)")
    known: set[str] = set()
    for kind in dict.fromkeys(kind for kind, _ in OBJECTIVES.values()):
        _fields_as_options(groups, kind, known)


def _fields_as_options(groups: dict, config_class, known: set[str]):
    """Add an option per field of a Config class that is not among `known`, and to these."""
    for group, names in grouped(config_class).items():
        for name in names:
            if name in known:
                continue
            known.add(name)
            section = groups[group if config_class is Config else "Objective"]
            field, kind = fields_of(config_class)[name], kinds_of(config_class)[name].type
            twins = {o: fields_of(other)[name] for o, (other, _) in OBJECTIVES.items()
                     if name in fields_of(other)}
            text = field.metadata["help"]
            if choices := dict.fromkeys(c for f in twins.values() for c in f.metadata["choices"]):
                text += f" ({', '.join(choices)})"
            defaults = {str(f.default) for f in twins.values()}
            if field.default is not None and len(defaults) < 2:
                default = str(field.default)
                text += f"; default: {default.lower() if kind is bool else default}"
            elif len(defaults) > 1:
                text += "; default: " + ", ".join(
                    f"{o} {f.default}" for o, f in twins.items() if not OBJECTIVES[o][1])
            value = {"nargs": "?", "const": "true"} if kind is bool else {}
            section.add_argument(
                "--" + name.replace("_", "-"), dest=name, metavar=METAVARS.get(kind, "NAME"),
                default=argparse.SUPPRESS, help=text.replace("%", "%%"), **value)


GO_WITH_RESUME = {"command", "resume", "out", "save_steps", "sample", "log", "quiet", "json"}


def check_resume(args: argparse.Namespace):
    """Raise UsageError if options would change the run that --resume continues."""
    usual = vars(parser().parse_args(["run"]))
    for name, value in vars(args).items():
        if name not in GO_WITH_RESUME and value != usual.get(name):
            option = "--" + {"probes": "probe"}.get(name, name).replace("_", "-")
            raise UsageError(f"{option} cannot be combined with --resume, which continues the same "
                             f"run. Leave {option} out, or start a new run.")


def config(args: argparse.Namespace) -> Config:
    """The Config of the options."""
    every = {name for kind, _ in OBJECTIVES.values() for name in fields_of(kind)}
    return for_objective(args.objective or "sft",
                         {k: v for k, v in vars(args).items() if k in every})


NEEDED = {"reward": ("grpo", "rloo"), "teacher": ("distill",)}  # option → its objectives


def check_objective(args: argparse.Namespace):
    """Raise UsageError if the options of `run` do not go with its objective."""
    objective = args.objective or "sft"
    for name, objectives in NEEDED.items():
        if objective in objectives and getattr(args, name) is None:
            expected = {"reward": "exact, contains, number, or module:function of your own",
                        "teacher": "a model, such as smollm2"}[name]
            raise UsageError(f"--objective {objective} needs --{name}: {expected}")
        if objective not in objectives and getattr(args, name) is not None:
            raise UsageError(f"--{name} belongs to --objective {' or '.join(objectives)}; leave "
                             f"--{name} out, or give --objective {objectives[0]}")
    if objective != "sft" and (args.ranks or args.torchrun or args.zero):
        raise UsageError(f"--objective {objective} cannot be combined with --ranks or --torchrun; "
                         "leave them out: TRL trains it on several GPUs")
