"""Encode records as token ids with labels, and collate or pack the examples.

An example is {"input_ids": [...], "labels": [...]}, two lists of the same length. A label is the
token's id if the token is trained on, else -100; the model shifts labels by one.

`templates` decides which segments of a text are trained on. Each segment is tokenized separately,
so the ids before an answer are exactly the prompt used for generation.

    coded = encode_all(records("translation"), tokenizer); show_batch(coded.examples[:2], tokenizer)
"""

import bisect
import dataclasses
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate

from ftkit.base.errors import UserError
from ftkit.base.formatting import show
from ftkit.base.progress_bar import Bar
from ftkit.data import foreign, schema, templates
from ftkit.data.jsonl import DataError, Problem
from ftkit.data.mask_view import NO_LOSS, BatchView

# ------------------------------------------------------------------------- segments → ids


def _tokenize(tokenizer, texts: list[str], hidden=None, **options) -> dict[str, list[int]]:
    """Map texts to ids. hidden: the `templates.Hidden` of special tokens that are text."""
    marked = [text for text in texts if hidden and templates.HIDDEN in text]
    table = {text: _unhidden(tokenizer, text, hidden) for text in marked}
    texts = [text for text in texts if text not in table]
    ids = tokenizer(texts, add_special_tokens=False, return_attention_mask=False,
                    return_token_type_ids=False, verbose=False, **options)["input_ids"] if (
                        texts) else []
    return table | dict(zip(texts, ids, strict=True))


def _unhidden(tokenizer, text: str, hidden) -> list[int]:
    """Tokenize a text in which the special tokens of the data are hidden: they become ordinary
    tokens, while those of the template stay special."""
    line, ids = "\n", []
    for place, piece in enumerate(hidden.real.split(text)):
        plain = hidden.show(piece)
        if place % 2 or not plain:
            ids += _tokenize(tokenizer, [piece])[piece] if piece else []
            continue
        # SentencePiece puts a mark before each text, but not behind a line end.
        found = _tokenize(tokenizer, [plain, line, line + plain], split_special_tokens=True)
        start, whole = found[line], found[line + plain]
        is_inside = ids and whole[: len(start)] == start
        ids += whole[len(start) :] if is_inside else found[plain]
    return ids


def _segment_ids(lines: list[list[templates.Segment]], tokenizer, hidden) -> list[list[list[int]]]:
    """Tokenize segments: for each record, a list of ids for each of its segments."""
    probe = _tokenize(tokenizer, ["a\nb", "a\n", "b"])
    alone = {text for line in lines for text, _ in line if text}
    if probe["a\nb"] == probe["a\n"] + probe["b"]:
        table = _tokenize(tokenizer, list(alone), hidden) | {"": []}
        return [[table[text] for text, _ in line] for line in lines]
    # SentencePiece tokenizers add a mark before each text, so a segment is not tokenized alone:
    # its ids are those that it adds to the ids of the text before it.
    so_far = [list(accumulate((text for text, _ in line), initial="")) for line in lines]
    table = _tokenize(tokenizer, list({t for line in so_far for t in line if t} | alone),
                      hidden) | {"": []}
    ids = []
    for line, grown in zip(lines, so_far, strict=True):
        ids.append([])
        for (text, _), old, new in zip(line, grown, grown[1:], strict=False):
            a, b = table[old], table[new]
            ids[-1].append(b[len(a) :] if b[: len(a)] == a else table[text])
    return ids


def document_start(tokenizer) -> list[int]:
    """The ids to put before a plain text (one id, or none).

    This is BOS if the tokenizer or its chat template writes it, else <|endoftext|>, the separator
    of pretraining documents, if the vocabulary has it. `bos_token_id` alone would be wrong:
    SmolLM2-Instruct's is <|im_start|>, which begins a chat turn. After it the 4-bit SmolLM2
    completes 44 % of the facts, after <|endoftext|> 63 %.
    """
    bos = tokenizer.bos_token_id
    writes = tokenizer("a", verbose=False)["input_ids"][:1] == [bos]
    if bos is not None and (writes or "bos_token" in str(tokenizer.chat_template or "")):
        return [bos]
    text = "<|endoftext|>"
    separator = tokenizer.convert_tokens_to_ids(text)  # get_vocab would copy the vocabulary
    if separator is None or tokenizer.convert_ids_to_tokens(separator) != text:
        return []
    return [separator]


def eos_ids(tokenizer, model=None) -> set[int]:
    """Ids that end an answer: EOS, the chat template's end of turn, and generation_config's EOS."""
    ids = {tokenizer.eos_token_id}
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    ids |= set(named) if isinstance(named, list | tuple) else {named}
    turn = templates.end_of_turn(tokenizer)
    ids |= {tokenizer.convert_tokens_to_ids(turn)} if turn else set()
    return ids - {None}


def _coded(records, tokenizer, template, hidden, to_answer=False,
           ) -> list[list[tuple[list[int], bool]]]:
    """Encode records: for each, a list of (ids, whether they are trained on) per segment.

    hidden: a `templates.Hidden` if special tokens in the records are text, else None.
    `document_start` is prepended unless the text begins with a special token, such as <|im_start|>.
    """
    try:
        given = hidden.hide(list(records)) if hidden else records
        made = templates.segments(given, tokenizer, template, to_answer)
    except templates.Rejected as error:
        problem = Problem(_line(records, error.index), None, str(error))
        raise DataError(getattr(records, "path", None), [problem]) from None
    lines, begin = [line for line, _ in made], document_start(tokenizer)
    opening = {*tokenizer.all_special_ids, *begin} - {tokenizer.eos_token_id}
    coded = []
    for (line, bare), ids in zip(made, _segment_ids(lines, tokenizer, hidden), strict=True):
        parts = [(part, loss) for part, (_, loss) in zip(ids, line, strict=True) if part]
        if bare and begin and not (parts and parts[0][0][0] in opening):
            parts.insert(0, (begin, False))
        coded.append(parts)
    return coded


def _line(records, index: int) -> int:
    return getattr(records, "lines", range(1, len(records) + 1))[index]


# ----------------------------------------------------------------------------------- encode


@dataclasses.dataclass
class Encoded:
    """Encoded examples, with counts of truncated and skipped ones (reasons in `problems`).

    notes: a sentence for what of the records has no effect, or another one than it may seem.
    """

    examples: Sequence[dict] = dataclasses.field(repr=False)
    truncated: int = 0
    skipped: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def encode_all(
    records: Sequence[dict], tokenizer, max_length: int | None = None, loss_on: str = "response",
    template: str | None = None, on_long: str = "error", split_special_tokens: bool = True,
) -> Encoded:
    """Encode all records, in order.

    max_length: tokens; longer examples are cut at the end. If no token to train on is left, raises
    DataError with the line, or skips the record if on_long is "skip".
    loss_on: "response" (every answer, including its end-of-turn token) or "all". Text records are
    always trained on completely, except the first token, which has no prediction.
    template: "chat", "alpaca", "plain", or a format string with {instruction}, {input} and
    {output}. None means the tokenizer's chat template, or Alpaca's if there is no chat template.
    split_special_tokens: a special token that is written in a record is text, as transformers calls
    it; False: it has its special id, as in a text that a chat template wrote.
    For a LargeFile or more than MANY records, the examples are a `Lazy` sequence, to save memory.
    """
    if loss_on not in ("response", "all"):
        raise UserError(f"loss_on is {loss_on!r}; expected response or all")
    if on_long not in ("error", "skip"):
        raise UserError(f"on_long is {on_long!r}; expected error or skip")
    if not isinstance(records, schema.Records | schema.LargeFile):
        records = [foreign.to_record(record) for record in records]
        bad = [p for i, r in enumerate(records, 1) for p in schema.problems_in(r, i)]
        if bad:
            raise DataError(None, bad)
        records = schema.Records(records)
    lazy = isinstance(records, schema.LargeFile) or len(records) > MANY
    examples: list[dict] = []
    out, kept, lengths = Encoded(examples), array("q"), array("q")
    hidden = templates.Hidden(tokenizer) if split_special_tokens else None
    thoughts = templates.uses_thoughts(tokenizer, template)
    unread: Counter[str] = Counter()
    bar = Bar("encoding the records", quiet=not lazy)  # a large file takes many seconds
    for start in range(0, len(records), CHUNK):
        bar(start / len(records))
        chunk = records[start : start + CHUNK]
        for record in chunk:
            kind = schema.kind_of(record) or "text"
            unread.update(foreign.unread_fields(record, kind, thoughts))
        coded = _coded(chunk, tokenizer, template, hidden)
        for index, parts in enumerate(coded, start):
            ids, labels = _labeled(parts, loss_on)
            kept_labels = labels[:max_length]
            if kept_labels.count(NO_LOSS) == len(kept_labels):
                trained = [label != NO_LOSS for label in labels]
                out.problems.append(no_room(_line(records, index), trained, max_length))
                continue
            out.truncated += len(kept_labels) < len(labels)
            kept.append(index)
            lengths.append(len(kept_labels))
            if not lazy:
                examples.append({"input_ids": ids[:max_length], "labels": kept_labels})
    bar.close()
    out.skipped = len(out.problems)
    out.notes = [f"the field {show(name)[1:-1]} was not used (in {count:,} of {len(records):,} "
                 "records)" for name, count in unread.items()]
    out.notes += [f"{show(token)} is a special token, and the records have it {count:,} times as "
                  "text, so it was encoded as text; split_special_tokens false keeps it special"
                  for token, count in (hidden.found if hidden else {}).items()]
    if out.problems and on_long == "error":
        raise DataError(getattr(records, "path", None), out.problems)
    if lazy:
        out.examples = Lazy(lengths, lambda i: encode_all(
            [records[kept[i]]], tokenizer, max_length, loss_on, template,
            split_special_tokens=split_special_tokens).examples[0])
    return out


# Token ids in Python lists take about thirty times the memory of their text. Therefore large data
# is validated once, CHUNK records at a time, and encoded again for each batch.
MANY, CHUNK = 20_000, 200


class Lazy(Sequence):
    """A sequence of examples that are encoded on each access; `lengths` are in tokens."""

    def __init__(self, lengths: Sequence[int], make: Callable[[int], dict]):
        self.lengths, self.make = lengths, make

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at):
        indices = range(len(self))[at]
        return self.make(indices) if isinstance(indices, int) else list(map(self.make, indices))


def joined(first: Sequence[dict], second: Sequence[dict]) -> Lazy:
    """Concatenate two sequences of examples lazily."""
    return Lazy([*_lengths(first), *_lengths(second)],
                lambda i: first[i] if i < len(first) else second[i - len(first)])


def _labeled(parts, loss_on) -> tuple[list[int], list[int]]:
    ids = [i for part, _ in parts for i in part]
    labels = []
    for part, loss in parts:
        labels += part if loss or loss_on == "all" else [NO_LOSS] * len(part)
    labels[:1] = [NO_LOSS]
    return ids, labels


def no_room(line: int, trained: list[bool], max_length: int | None) -> Problem:
    """Return the Problem that max_length cuts off every token that is trained on."""
    prompt = trained.index(True) if any(trained) else len(trained)
    return Problem(line, None, f"the prompt has {prompt} tokens, so with max_length {max_length} "
                   "no token of the response is left; raise max_length or shorten the prompt")


def encode(record: dict, tokenizer, max_length: int | None = None, loss_on: str = "response",
           template: str | None = None, split_special_tokens: bool = True) -> dict | None:
    """Encode one record. Returns None if max_length leaves no token to train on."""
    examples = encode_all([record], tokenizer, max_length, loss_on, template, "skip",
                          split_special_tokens).examples
    return examples[0] if examples else None


def prompts(records: Sequence[dict], tokenizer, template: str | None = None,
            split_special_tokens: bool = True) -> list[list[int]]:
    """Encode the prompt of each record: everything before its last answer."""
    hidden = templates.Hidden(tokenizer) if split_special_tokens else None
    return [[i for part, _ in parts for i in part]
            for parts in _coded(records, tokenizer, template, hidden, to_answer=True)]


def prompt_ids(record: dict, tokenizer, template: str | None = None) -> list[int]:
    """Encode the prompt of one record, which needs no output."""
    return prompts([record], tokenizer, template)[0]


def answer(record: dict) -> str:
    """Return the reference answer of a record; "" if there is none."""
    if "messages" in record and record["messages"][-1]["role"] != "assistant":
        return ""
    return schema.response_of(record)


# ------------------------------------------------------------------------- batches, packed rows


def collate(examples: Sequence[dict], pad_token_id: int, padding_side: str = "right") -> dict:
    """Pad examples to LongTensors input_ids, attention_mask and labels: (examples, longest)."""
    import torch

    if padding_side not in ("right", "left"):
        raise UserError(f"padding_side is {padding_side!r}; expected right or left")
    longest = max(len(e["input_ids"]) for e in examples)

    def padded(rows, fill):
        fills = [[fill] * (longest - len(row)) for row in rows]
        both = zip(rows, fills, strict=True)
        return torch.tensor([r + f if padding_side == "right" else f + r for r, f in both])

    return {
        "input_ids": padded([e["input_ids"] for e in examples], pad_token_id),
        "attention_mask": padded([[1] * len(e["input_ids"]) for e in examples], 0),
        "labels": padded([e["labels"] for e in examples], NO_LOSS),
    }


def pack(examples: Sequence[dict], max_length: int) -> list[list[dict]]:
    """Pack whole examples into rows of at most `max_length` tokens, by best-fit decreasing.

    The number of rows is at most 11/9 of the minimum, plus a constant. Raises UserError if an
    example is longer than a row.
    """
    return list(Units(examples, max_length))


def _lengths(examples) -> Sequence[int]:
    return getattr(examples, "lengths", None) or [len(e["input_ids"]) for e in examples]


def _pack(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Pack examples of these lengths; returns the indices in each row."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), sorted
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[i]
        if length > max_length:
            raise UserError(f"an example has {length} tokens, but max_length is {max_length}. "
                            "Encode the records with this max_length, or raise max_length.")
        at = bisect.bisect_left(room, (length, 0))
        if at == len(room):
            free, row = max_length, len(rows)
            rows.append([])
        else:
            free, row = room.pop(at)
        rows[row].append(i)
        bisect.insort(room, (free - length, row))
    return rows


class Units(Sequence):
    """The units of a batch, each a list of examples: one, or with `max_length` a packed row."""

    def __init__(self, examples: Sequence[dict], max_length: int | None = None):
        self.examples = examples
        self.rows = None if max_length is None else _pack(_lengths(examples), max_length)

    def __len__(self) -> int:
        return len(self.examples if self.rows is None else self.rows)

    def __getitem__(self, at: int) -> list[dict]:
        return [self.examples[i] for i in (self.rows[at] if self.rows is not None else [at])]


def show_batch(examples, tokenizer) -> BatchView:
    """Show examples (or records, which are encoded first) token by token, with the loss mask."""
    examples = getattr(examples, "examples", examples)
    if isinstance(examples, dict):
        examples = [examples]
    if examples and "input_ids" not in examples[0]:
        examples = encode_all(examples, tokenizer, on_long="skip").examples
    return BatchView(list(examples), tokenizer)
