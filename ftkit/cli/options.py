"""The options of the `ftkit` command, and its messages about a wrong command line.

    args = parse(["run", "--data", "translation"])
"""

import argparse
import difflib
import re
import sys
import textwrap
from collections.abc import Callable

from ftkit import __version__
from ftkit.base.config import OBJECTIVES, Config, for_objective
from ftkit.base.config_fields import fields_of, kinds_of
from ftkit.base.errors import UserError
from ftkit.cli import terminal_text
from ftkit.memory_use.trainers import TRAINERS

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
    top = _Parser(prog="ftkit", description="Learn to fine-tune language models by doing it.")
    top.add_argument("--version", action="version", version=f"ftkit {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, (help, *options) in COMMANDS.items():
        usage = f"ftkit {name} [OPTION ...]" if _config_options in options else None
        made = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.",
                                   usage=usage)
        groups = {"": made} | {group: made.add_argument_group(title)
                               for group, title in TITLES.items()}
        for add in options:
            add(groups)
    return top


# Group of fields -> its section in the help.
TITLES = {"Data": "model and data", "Method": "method (names as in peft)",
          "Optimization": "optimization (names as in transformers)",
          "Objective": "objective (names as in TRL)",
          "Evaluation": "evaluation", "System": "system"}


def _option(name: str, metavar: str, help: str, group: str = "", **more) -> Callable:
    return lambda groups: groups[group].add_argument(name, metavar=metavar, help=help, **more)


def _flag(name: str, help: str, group: str = "") -> Callable:
    return lambda groups: groups[group].add_argument(name, action="store_true", help=help)


def _config_options(groups: dict):
    """Add an option per field of a Config; the namespace lacks the options that are not given."""
    groups["Objective"].add_argument(
        "--objective", metavar="NAME", help=f"{', '.join(OBJECTIVES)} (default: sft)")
    owners: dict[str, type[Config]] = {}  # field → the first Config that has it
    for kind, _ in OBJECTIVES.values():
        owners |= {name: kind for name in fields_of(kind) if name not in owners}
    for name, owner in owners.items():
        field, kind = fields_of(owner)[name], kinds_of(owner)[name].type
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
        groups[field.metadata["group"] if owner is Config else "Objective"].add_argument(
            "--" + name.replace("_", "-"), dest=name, metavar=METAVARS.get(kind, "NAME"),
            default=argparse.SUPPRESS, help=text.replace("%", "%%"), **value)


JSON = _flag("--json", "print one JSON object on stdout")
COMMANDS = {
    "lab": (
        "open your own copy of the lessons in JupyterLab",
        _option("folder", "DIR", "folder of your copy, created if needed (default: "
                "./ftkit-lessons)", nargs="?", default="ftkit-lessons"),
        _flag("--fresh", "create a new folder with the unchanged lessons"),
        _flag("--no-browser", "only print the address"),
        _option("--port", "N", "default: 8888, or the next free port",
                type=whole_number(1, 65535)),
        _option("--ip", "ADDRESS", "address to bind: 127.0.0.1 for this machine only (default), "
                "0.0.0.0 for all networks, as in a container", default="127.0.0.1")),
    "playground": (
        "fine-tune the embedded model in a browser tab, without JupyterLab",
        _flag("--no-browser", "only print the address")),
    "doctor": ("check this machine, its packages and the lessons", JSON),
    "run": (
        "fine-tune a model once and report the result", JSON,
        _option("--model", "NAME", "tiny (default), smollm2, a folder, or a hub id", "Data",
                default="tiny"),
        _option("--data", "NAME|FILE", "a sample, a CSV or a JSONL file (default: translation; "
                "preferences for an objective on pairs)", "Data"),
        _option("--val", "FILE", "validation records (default: the sample's, else a tenth of the "
                "data)", "Data"),
        _option("--probe", "NAME|FILE", "extra evaluation records; their loss is measured during "
                "the run (repeatable; default: general; none: no extra records)", "Evaluation",
                action="append", dest="probes"),
        _option("--sample", "N", "answer N validation records at each evaluation and show the "
                "answers (default: 0)", "Evaluation", default=0, type=whole_number(0, 1000)),
        _option("--template", "NAME|TEXT", "template that turns a record into text: auto, chat, "
                "plain, alpaca, or a text with {instruction}, {input} and {output} (default: the "
                "model's own)", "Data"),
        _config_options,
        _option("--reward", "NAME", "reward of an answer, for grpo and rloo: exact, contains or "
                "number, or your function module:function of (answer, record), in a module of "
                "this folder", "Objective"),
        _option("--teacher", "NAME", "model to learn from, for distill: as --model", "Objective"),
        _option("--ranks", "N", "split the run across N processes on this machine", "System",
                type=whole_number(1, 64)),
        _option("--zero", "STAGE", "which states are sharded across the ranks: "
                + ZERO_STAGES.format(default=3), "System", type=whole_number(0, 3)),
        _option("--torchrun", "DIR", "do not train; write a folder that torchrun can start on any "
                "number of machines", "System"),
        _option("--out", "DIR", "save the adapter or model in this folder", "System"),
        _option("--save-steps", "N", "steps between checkpoints for --resume; a checkpoint holds "
                "the trained weights and the optimizer's state (default: 0, only on an interrupt)",
                "System", default=0, type=whole_number(0)),
        _option("--resume", "ID", "continue a run that was interrupted or killed; can be combined "
                "only with --out, --save-steps, --sample, --log, --quiet and --json", "System"),
        _flag("--again", "train even if the same run is stored (default: report the stored run)",
              "System"),
        _option("--log", "NAME", "also log to tensorboard, trackio or wandb (pip install "
                "'ftkit[NAME]')", "System"),
        _flag("--quiet", "no progress bar", "System")),
    "check": (
        "check a data file before training on it", JSON,
        _option("file", "FILE", "a sample, or a .jsonl, .json, .csv, .tsv, .txt or .parquet file"),
        _option("--against", "FILE", "count the rows that also occur in this file (repeatable)",
                action="append"),
        _option("--model", "NAME", "count tokens with this model's tokenizer"),
        _option("--max-length", "N", "report records with more tokens (default with --model: its "
                "context, at most 512)", type=whole_number(2))),
    "convert": (
        "write a data file of another tool as JSON Lines", JSON,
        _option("file", "FILE", "a .json, .csv, .parquet, ... or .jsonl file"),
        _option("out", "NEW", "the new file, NAME.jsonl"),
        _option("--tools", "{text}", "text: write functions and calls as text, as Hermes models "
                "do", choices=("text",)),
        _flag("--skip", "leave out the rows that cannot be trained on"),
        _flag("--dedup", "leave out the rows that repeat an earlier one, nearly or exactly"),
        _flag("--suspect", "leave out personal data, keys, and empty or truncated answers"),
        _option("--against", "FILE", "leave out the rows whose prompt occurs in this file "
                "(repeatable)", action="append")),
    "plan": (
        "measure whether a fine-tune pays, at which learning rate and rank", JSON,
        _option("file", "FILE", "a sample or a file, as `ftkit check` reads it"),
        _option("--model", "NAME", "tiny (default), smollm2, a folder, or a hub id", "Data",
                default="tiny"),
        _option("--val", "FILE", "validation records (default: the sample's, else a tenth of the "
                "data)", "Data"),
        _option("--template", "NAME|TEXT", "as in `ftkit run`", "Data"),
        _config_options,
        _option("--gpu", "NAME|SIZE", "also check whether the run fits this GPU, such as 24GB",
                "System")),
    "diagnose": (
        "name what may be wrong with a run, from its log", JSON,
        _option("file", "FILE", "trainer_state.json, a log as .jsonl, .csv or printed rows, or a "
                "folder of TensorBoard; exports of W&B and trackio")),
    "export": (
        "merge an adapter into its base model, for use in other programs", JSON,
        _option("source", "DIR", "the folder that `ftkit run --out` or peft saved"),
        _option("out", "OUT", "a new folder for the merged model; if its name ends in gguf, it "
                "gets model.gguf and a Modelfile, for llama.cpp and Ollama"),
        _option("--dtype", "NAME", "number format of the weights: fp32, bf16 or fp16 (default: "
                "fp32), for GGUF f16 or q8_0 (default: f16)"),
        _option("--check", "FILE", "answer 20 prompts of a sample or file with transformers and "
                "with the GGUF file, and name the first difference and its cause; an OUT that "
                "exists is only checked. Exit status 3: a cause besides rounding", nargs="?",
                const="auto")),
    "push": (
        "upload a tuned model or adapter, with its card, to the Hugging Face hub", JSON,
        _option("folder", "DIR", "the folder that `ftkit run --out` or `ftkit export` wrote"),
        _option("name", "OWNER/NAME", "its name on the hub"),
        _flag("--public", "everybody may read it (default: only you)")),
    "fetch": (
        "download a pretrained model: smollm2", JSON,
        _option("name", "NAME", "smollm2: SmolLM2-135M-Instruct, about 0.3 GB")),
    "memory": (
        "predict the memory of a training step", JSON,
        _option("--model", "NAME", "tiny (default), smollm2, a known hub id or its short name such "
                "as llama-2-7b, a folder, a config.json, or a number of parameters such as 7.5B "
                "(only its weights, gradients and optimizer states)", "Data", default="tiny"),
        _flag("--models", "list the known models and GPUs", "Data"),
        _config_options,
        _option("--gpu", "NAME|SIZE", "check whether the step fits this GPU, such as \"RTX 4090\" "
                "or 24GB (exit status 0: it fits, 3: it does not), and report the largest batch "
                "and possible changes", "System"),
        _option("--trainer", "NAME", "whose training step: "
                + ", ".join(one.about for one in TRAINERS.values()), "System", default="ftkit"),
        _option("--gpus", "N", "number of GPUs (default: 1)", "System", default=1,
                type=whole_number(1, 2**20)),
        _option("--zero", "STAGE", "which states are sharded across the GPUs: "
                + ZERO_STAGES.format(default=0), "System", default=0, type=whole_number(0, 3)),
        _flag("--offload", "keep optimizer states in the host's memory", "System"),
        _option("--device", "NAME", "cpu or cuda (default: this machine's for a model stored here, "
                "else cuda)", "System"),
        _option("--attention", "NAME", "sdpa or eager: transformers' attention on padded batches, "
                "instead of ftkit's", "System"),
        _option("--logits", "N", "largest number of logits that the loss computes at a time",
                "System", type=whole_number(1)),
        _flag("--verbose", "also print what the prediction assumes", "System"),
        _flag("--measure", "also measure one real step on this machine (tiny, smollm2 or a "
              "folder)", "System")),
    "drill": (
        "practice interview questions: cards, proofs, a mock interview",
        _option("--level", "NAME", "junior, mid, senior or staff; several: junior,mid"),
        _option("--topic", "NAME", "a topic, such as LoRA or memory; also: your misses, your "
                "cards"),
        _option("--new", "N", "maximum number of new cards (default: 10)", default=10,
                type=whole_number(0, 1000)),
        _flag("--interview", "hold a timed mock interview"),
        _flag("--clinic", "diagnose runs that went wrong from what a colleague would send"),
        _option("--rounds", "NAME", "rounds of the interview: concept, coding, design, story "
                "(default: all); several: concept,coding"),
        _option("--minutes", "N", "length of the drill (default: no limit), of the interview "
                "(default: the clocks of its questions), or of a day of the plan (default: 45)",
                type=whole_number(1, 1440)),
        _option("--plan", "DAYS", "what to do on each day until an interview in DAYS days",
                type=whole_number(1, 365)),
        _option("--questions", "N", "concept questions in the interview (default: 6)", default=6,
                type=whole_number(1, 100)),
        _option("--grader", "URL", "a model at an OpenAI-compatible endpoint reads what you type, "
                "such as http://localhost:11434/v1 of Ollama (default: none, and no network)"),
        _option("--grader-model", "NAME", "its model there (default: the first that it lists)"),
        _flag("--partner", "in the interview: write the rubric for another person, who judges you"),
        _flag("--agreement", "measure how far the grader agrees with 200 labeled answers"),
        _flag("--list", "list the questions and their ids"),
        _option("--prove", "ID", "run the proof of a question's answer"),
        _option("--cards", "FILE", 'your own cards, one {"front": "question", "back": "answer"} '
                "per line (default: cards.jsonl in your ftkit home)"),
        _flag("--suspended", "list the suspended cards"),
        _option("--resume", "CARD", "ask a suspended card again"),
        _option("--export", "FILE", "write the cards: .csv for Anki, or .json"),
        _option("--cheat-sheet", "FILE", "write a printable page (HTML) with numbers computed "
                "now")),
    "runs": (
        "list all runs, or show some of them", JSON,
        _option("ids", "ID", "the id of a run, or its beginning; or a .json file of runs that the "
                "playground exported, which are added", nargs="*"),
        _option("--where", "TERMS", "only runs for which all terms hold, such as \"method=lora "
                "val_loss<0.5\"; a word searches names and settings"),
        _option("--sort", "NAME", "sort by a measure or a field, such as val_loss; -val_loss: "
                "largest first (default: by time, newest last)"),
        _option("--limit", "N", "at most N runs (default: 20 as text, all with --json)",
                type=whole_number(1)),
        _option("--report", "FILE", "write a page about these runs, FILE.html or FILE.md")),
    "race": (
        "run and verify entries of the one-minute race", JSON,
        _option("files", "FILE", "an entry: a JSON file with fields of a Config; docs/race has the "
                "rules, and entries to begin with", nargs="+"),
        _option("--first-seed", "N", "the first of three seeds (default: 900, those of the table)",
                default=900, type=whole_number(0, 10**6))),
    "grade": (
        "run the checks over a folder of learners' notebooks", JSON,
        _option("folder", "DIR", "notebooks, or a folder of them for each learner, as nbgrader's"),
        _option("--seconds", "N", "limit for one notebook (default: 120)", default=120,
                type=whole_number(1, 3600))),
    "mcp": ("serve tools for your AI assistant: lessons, hints, cards, runs",),
}


GO_WITH_RESUME = {"command", "resume", "out", "save_steps", "sample", "log", "quiet", "json"}


def check_resume(args: argparse.Namespace):
    """Raise UsageError if options would change the run that --resume continues."""
    usual = vars(parser().parse_args(["run"]))
    for name, value in vars(args).items():
        if name not in GO_WITH_RESUME and value != usual.get(name):
            option = "--" + {"probes": "probe"}.get(name, name).replace("_", "-")
            raise UsageError(f"{option} cannot be combined with --resume, which continues the same "
                             f"run. Leave {option} out, or start a new run.")


def given(args: argparse.Namespace) -> dict:
    """The fields of a Config that options give."""
    every = {name for kind, _ in OBJECTIVES.values() for name in fields_of(kind)}
    return {k: v for k, v in vars(args).items() if k in every}


def config(args: argparse.Namespace) -> Config:
    return for_objective(args.objective or "sft", given(args))


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
