"""Audit a data file before training: errors, warnings, duplicates, lengths, leaks.

The file is read once, line by line; only a few hashes and the lengths of each row are kept.

    check("my.jsonl", against="my_test.jsonl")["leaks"]
"""

import json
import re
import zlib
from array import array
from importlib.util import find_spec
from pathlib import Path

from ftkit.base.formatting import show
from ftkit.data import encoding, foreign, schema, suspect, templates
from ftkit.data.file_formats import rows
from ftkit.data.jsonl import DataError, Problem

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MOJIBAKE = re.compile("\ufffd|Ã[\x80-\xbf]|â€")  # typical of text decoded with the wrong encoding
SPACE = re.compile(r"\s|\\[nrt]")  # white space in a line of JSON
PAIRS = ("the rows are preference pairs: `ftkit run --objective dpo` learns from both answers, a "
         "run without --objective from `chosen` only")
CALLS = ("some rows call functions, which not every model's chat template can write: `ftkit check "
         "FILE --model MODEL` tries it")
CHUNK = 512  # records that are tokenized together


def check(path, tokenizer=None, max_length: int | None = None, against=None) -> dict:
    """Audit a file and return the result of `ftkit check` as a dict for JSON.

    against: one or more test files whose prompts must not occur. max_length: with a tokenizer,
    report rows that lose part or all of their response. Keys of the result:
    rows: number of non-blank lines. errors, warnings: lists of {row, field, problem}; row is the
    line number, field is None for the whole row. duplicates: rows equal to an earlier one.
    near_duplicates: rows at least 80 % similar to an earlier one (see `Near`). lengths: min,
    median, p95 and max of prompt and response in characters, and with a tokenizer in tokens.
    leaks: rows whose prompt occurs in `against`. suspected: reasons to leave rows out, see
    `suspect`. notes: what was not examined, and what the rows are for.
    `convert.mend` names the command that mends all of it.
    Raises DataError only if a file cannot be opened or a file of `against` has invalid rows.
    """
    with suspect.searching() as private:
        audit = _Audit(tokenizer, max_length, questions(against), private)
        for line, record, problem in rows(path):
            audit.row(line, record, problem)
        result = audit.result()
    notes = [] if find_spec("detect_secrets") else [suspect.MISSING]
    notes += [PAIRS] if audit.kind == "preference" else []
    notes += [CALLS] if audit.calls and tokenizer is None else []
    return result | {"suspected": audit.suspected, "notes": notes}


def questions(against) -> dict[int, str]:
    """Map the hash of each prompt in `against` to "FILE line N". Raises DataError if a line is
    invalid."""
    paths = [] if against is None else [against] if isinstance(against, str | Path) else against
    questions: dict[int, str] = {}
    for path in map(Path, paths):
        records = schema.compact(path)
        for line, record in zip(records.lines, records, strict=True):
            questions.setdefault(schema.short_hash(schema.group_key(record)),
                                 f"{path.name} line {line}")
    return questions


class _Audit:
    """The state of an audit: `row` adds a row, `result` returns the findings."""

    def __init__(self, tokenizer, max_length, others_questions, private):
        self.private, self.suspected = private, 0
        self.tokenizer, self.max_length = tokenizer, max_length
        self.others_questions = others_questions
        self.rows = self.leaks = self.calls = 0
        self.kind: str | None = None  # the first record's kind
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.lines, self.whole, self.question = array("I"), array("Q"), array("Q")  # good rows
        self.unspaced = array("Q")  # the same as `whole`, without white space
        self.unknown: dict[str, list[int]] = {}  # name → first line, number of rows
        self.renamed: dict[str, list[int]] = {}
        self.lengths = {"prompt": array("I"), "response": array("I")}
        self.chunk, self.chunk_lines, self.near = [], [], Near()
        self.thoughts = tokenizer is not None and templates.uses_thoughts(tokenizer, None)
        if tokenizer is not None:
            self.lengths |= {"prompt_tokens": array("I"), "response_tokens": array("I")}
            self.special = templates.special(tokenizer)

    def warn(self, line: int, field: str | None, problem: str):
        self.warnings.append(Problem(line, field, problem))

    def row(self, line: int, record: dict | None, problem: Problem | None):
        self.rows += line > 0  # 0: a problem of the whole file
        raw, record = record, foreign.to_record(record)
        bad = [problem] if problem else schema.problems_in(record, line, self.kind)
        if self.kind is None and record is not None:
            self.kind = schema.kind_of(record)
        self.errors += bad
        if record is not None and raw is not None and self.kind is not None and not bad:
            for name in (name for name in raw if name not in record):
                self.renamed.setdefault(name, [line, 0])[1] += 1
            self.good_row(line, record, self.kind)

    def good_row(self, line: int, record: dict, kind: str):
        self.calls += foreign.uses_tools(record)
        prompt = schema.prompt_of(record)
        response = schema.response_of(record) if kind != "chat" else "\n".join(
            foreign.text_of(m) for m in record["messages"]
            if m["role"] == "assistant" and schema.is_trained(m))
        self.lengths["prompt"].append(len(prompt))
        self.lengths["response"].append(len(response))
        self.near.add(f"{prompt}\n{response}")
        question = schema.short_hash(schema.group_key(record))
        trained = json.dumps([record.get(name) or "" for name in schema.FIELDS[kind]])
        self.lines.append(line)
        self.whole.append(schema.short_hash(trained))
        self.unspaced.append(schema.short_hash(SPACE.sub("", trained)))
        self.question.append(question)
        if question in self.others_questions:
            self.leaks += 1
            self.warn(line, None, f"has the same prompt as {self.others_questions[question]}")
        self.look(line, record, kind)
        if self.tokenizer is not None:
            self.chunk.append(record)
            self.chunk_lines.append(line)
            if len(self.chunk) == CHUNK:
                self.count_tokens()

    def look(self, line: int, record: dict, kind: str):
        """Warn about content that is allowed but often a mistake."""
        for name in foreign.unread_fields(record, kind, self.thoughts):
            self.unknown.setdefault(name, [line, 0])[1] += 1
        texts = list(texts_of(record, kind))
        for field, problem in suspect.suspicions(texts, schema.response_of(record), self.private):
            self.suspected += 1
            self.warn(line, field, problem)
        for field, text in texts:
            control = CONTROL.search(text)
            if control:
                self.warn(line, field, f"contains the control character {show(control.group())}")
            garbled = None if text.isascii() else MOJIBAKE.search(text)
            if garbled:
                self.warn(line, field, "looks like text that was decoded with the wrong encoding "
                                       f"({show(garbled.group())})")
            if self.tokenizer is not None:
                token = self.special.search(text)
                if token:
                    self.warn(line, field, f"contains {show(token.group())}, a special token of "
                                           "the tokenizer, which is encoded as text (a run keeps "
                                           "it with split_special_tokens false)")
        if kind == "preference" and record["chosen"].strip() == record["rejected"].strip():
            self.warn(line, "rejected", "equals chosen, so the pair has no effect")
        if kind == "chat" and record["messages"][-1]["role"] != "assistant":
            self.warn(line, "messages", "ends before the assistant answers; text after its last "
                                        "turn is not trained on")

    def count_tokens(self):
        batch = schema.Records(self.chunk, lines=self.chunk_lines)
        try:
            examples = encoding.encode_all(batch, self.tokenizer).examples
        except DataError:  # one record failed; count the others
            examples = []
            for i in range(len(batch)):
                try:
                    examples += encoding.encode_all(batch[i : i + 1], self.tokenizer).examples
                except DataError as error:
                    self.errors += error.problems
                    examples.append(None)
        for line, example in zip(self.chunk_lines, examples, strict=True):
            if example is not None:
                self.fit(line, [label != encoding.NO_LOSS for label in example["labels"]])
        self.chunk, self.chunk_lines = [], []

    def fit(self, line: int, mask: list[bool]):
        response, limit = sum(mask), self.max_length
        self.lengths["prompt_tokens"].append(len(mask) - response)
        self.lengths["response_tokens"].append(response)
        if limit is None or len(mask) <= limit:
            return
        if not any(mask[:limit]):
            self.errors.append(encoding.no_room(line, mask, limit))
        else:
            self.warn(line, None, f"has {len(mask)} tokens; max_length {limit} cuts off its end")

    def result(self) -> dict:
        if self.chunk:
            self.count_tokens()
        for name, (line, count) in self.renamed.items():
            ours = foreign.our_name(name)
            self.warn(line, show(name)[1:-1], "is another tool's field, read as "
                      f"{ours or 'part of the record'} (in {count:,} of {self.rows:,} rows)")
        for name, (line, count) in self.unknown.items():
            self.warn(line, show(name)[1:-1], f"is an unknown field, not used (in {count:,} of "
                                              f"{self.rows:,} rows)")
        duplicates, near = self.compare() if self.lines else (0, 0)
        return {
            "rows": self.rows,
            "errors": [p._asdict() for p in sorted(self.errors, key=lambda p: p.row)],
            "warnings": [p._asdict() for p in sorted(self.warnings, key=lambda p: p.row)],
            "duplicates": duplicates,
            "near_duplicates": near,
            "lengths": {name: _spread(values) for name, values in self.lengths.items()},
            "leaks": self.leaks,
        }

    def compare(self) -> tuple[int, int]:
        """Warn about duplicate rows; returns (number of duplicates, number of near-duplicates)."""
        near = self.near.pairs()
        self.near = Near()  # free most of the memory
        same, asks = schema.first_of(self.whole), schema.first_of(self.question)
        for i, line in enumerate(self.lines):
            if same[i] != i:
                self.warn(line, None, f"is the same as line {self.lines[same[i]]}")
                near.pop(i, None)
            elif asks[i] != i and self.kind != "text":
                other = ("differs only in white space" if self.unspaced[i] ==
                         self.unspaced[asks[i]] else "has another answer")
                self.warn(line, None,
                          f"has the same prompt as line {self.lines[asks[i]]} and {other}")
            if i in near:
                self.warn(line, None, f"is nearly the same as line {self.lines[near[i]]}")
        return int((same != range(len(same))).sum()), len(near)


def texts_of(record: dict, kind: str):
    """Yield (field, text) for each text of a record that is tokenized."""
    if kind == "chat":
        for i, message in enumerate(record["messages"]):
            yield f"messages[{i}].content", foreign.text_of(message)
    for name in schema.FIELDS[kind] if kind != "chat" else ():
        yield name, record.get(name) or ""


def _spread(values) -> dict:
    lengths = sorted(values) or [0]
    at = {"min": 0, "median": 0.5, "p95": 0.95, "max": 1}
    return {name: lengths[round(share * (len(lengths) - 1))] for name, share in at.items()}


class Near:
    """Finds rows that share most of their three-word shingles, in nearly linear time.

    MinHash: the fraction of equal minima under 64 random hashes estimates the Jaccard similarity of
    two sets of shingles (Broder 1997); 16 bits of each minimum are enough (Li and König 2010).
    Rows are compared if they agree on all 4 minima of one of 16 bands. A pair of similarity 0.8
    does so with probability 1 - (1 - 0.8^4)^16 > 0.999. Case, punctuation and white space are
    ignored.
    """

    HASHES, BAND, SIMILAR = 64, 4, 0.8
    WORDS = 2**13  # hashed at once: 2 MB, so that they fit in the processor's cache
    PAIRS = 2**13  # compared at once: 1 MB of signatures on each side

    def __init__(self):
        self.signatures, self.factors = bytearray(), None  # 128 bytes a row
        self.words: list[int] = []  # word hashes of the rows without a signature
        self.ends: list[int] = []  # end of each of these rows in `words`

    def add(self, text: str):
        words = [zlib.crc32(word.encode()) for word in re.findall(r"\w+", text.lower())]
        words += [0] * (3 - len(words))
        if self.words and len(self.words) + len(words) > self.WORDS:
            self.sign()
        self.words += words
        self.ends.append(len(self.words))

    def sign(self):
        """Compute the signatures of the rows added since the last call."""
        import numpy as np

        if not self.ends:
            return
        if self.factors is None:
            odd = np.random.default_rng(0).integers(0, 1 << 31, (self.HASHES, 1), dtype=np.uint32)
            self.factors = odd * np.uint32(2) + np.uint32(1)
        words = np.array(self.words, np.uint32)
        hashes = words[:-2] * np.uint32(961) + words[1:-1] * np.uint32(31) + words[2:]
        # Leave out the two shingles that begin in one row and end in the next.
        edges = [0, *(edge for end in self.ends for edge in (end - 2, end))][:-2]
        minima = np.full((self.HASHES, len(self.ends)), np.uint32(2**32 - 1))
        for start in range(0, len(hashes), self.WORDS):  # a single text may be longer
            # Multiply-shift hashing: the upper half of the product with a random odd number.
            products = self.factors * hashes[start : start + self.WORDS]
            smallest = np.minimum.reduceat(products, edges, axis=1)[:, ::2]
            minima = np.minimum(minima, smallest)
        self.signatures += (minima.T >> np.uint32(16)).astype(np.uint16).tobytes()
        self.words, self.ends = [], []

    def pairs(self) -> dict[int, int]:
        """Map each near-duplicate row to the earlier row that it resembles."""
        import numpy as np

        self.sign()
        signatures = np.frombuffer(self.signatures, np.uint16).reshape(-1, self.HASHES)
        bands = np.frombuffer(self.signatures, np.uint64).reshape(len(signatures), -1)
        earlier: dict[int, int] = {}
        for k in range(bands.shape[1]):
            # Sorting by the next band too puts the most similar rows of a large group together.
            band, following = bands[:, k], bands[:, (k + 1) % bands.shape[1]]
            order = np.lexsort((following, band))
            alike = np.flatnonzero(np.diff(band[order]) == 0)
            pairs = np.sort(np.stack([order[alike], order[alike + 1]]), axis=0)
            for start in range(0, pairs.shape[1], self.PAIRS):
                block = pairs[:, start : start + self.PAIRS]
                close = (signatures[block[0]] == signatures[block[1]]).mean(axis=1) >= self.SIMILAR
                for i, j in block[:, close].T.tolist():
                    earlier[j] = min(i, earlier[j]) if j in earlier else i
        return earlier
