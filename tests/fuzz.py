"""Random input for everything that reads what others wrote: `python tests/fuzz.py 100000`.

Each parser is given valid examples that were cut, spliced, repeated and salted with tokens that
have broken parsers before. It may accept one, or refuse it with a ValueError in words. Anything
else is a finding: another exception, an empty message, more than LIMIT seconds, a file written.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from ftkit.data import audit

LIMIT = 5
SALT = [b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\\", b'"', b"{", b"}", b"[",
        b"]", b"[" * 3000, b"{{", b"}}", b"{instruction", b"{input.__class__}", b"{output!r:>9999}",
        b"{0}", b"%s", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 400,
        b"1e-400", b"\\ud800", b"\\u0000", "é".encode(), "😀".encode(), "\u202e".encode(),
        b"../../../etc/passwd", b"/dev/zero", b"~root", b"file://", b"${HOME}", b"`id`", b"$(id)",
        b"<script>alert(1)</script>", b"\x1b[31m", b"=", b" = ", b",", b":", b";", b"'", b"#",
        b"__proto__", b"tiny", b"None", b"learning_rate", b"messages", b"role", b"content", b"lora",
        b"assistant", b"max_position_embeddings", b"hidden_size", b"1" * 30, b"-9999999999999999"]


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A valid example after one to six accidents."""
    text = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 6)):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        kind = rng.randrange(7)
        if kind == 0:
            text[at:at] = rng.choice(SALT)
        elif kind == 1:
            del text[at : min(end, at + 40)]
        elif kind == 2 and text:
            text[at % len(text)] = rng.randrange(256)
        elif kind == 3:
            text[at:end] = rng.choice(SALT)
        elif kind == 4:
            other = rng.choice(seeds)
            cut = rng.randint(0, len(other))
            text[at:end] = other[cut : cut + 60]
        elif kind == 5:
            text[at:at] = text[at : min(end, at + 60)] * rng.randint(1, 3)
        else:
            text[:] = text[: rng.randint(0, len(text))]
    return bytes(text[:20_000])


def as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape" if raw[:1] > b"@" else "replace")


# ------------------------------------------------------------------- parser → (seeds, reader)


def jsonl(folder):
    from ftkit.data import schema

    path = folder / "x.jsonl"
    rows = [{"instruction": "Add.", "input": "2 3", "output": "5"}, {"text": "Rain fell.\n"},
            {"messages": [{"role": "user", "content": "Hi"},
                          {"role": "assistant", "content": "Hello"}]},
            {"instruction": "Say", "input": "", "chosen": "yes", "rejected": "no"}]
    seeds = [b"\n".join(json.dumps(row).encode() for _ in range(n)) for row in rows for n in (1, 3)]

    def read(raw):
        path.write_bytes(raw)
        found = audit.check(path)
        assert found["rows"] >= len({e["row"] for e in found["errors"]}) - 1
        assert len(schema.records(path)) == found["rows"]

    return seeds, read


def templates(folder):
    from ftkit.data import encoding
    from ftkit.model import loading

    tokenizer = loading.load_tokenizer("tiny")
    record = {"instruction": "Add {x}.", "input": "2 3", "output": "5"}
    seeds = [b"{instruction}\n{input}\n{output}", b"Q: {instruction} A: {output}", b"alpaca",
             b"chat", b"plain", b"{output}", b"### {instruction}{input}\n\n{output} end"]
    return seeds, lambda raw: encoding.encode(record, tokenizer, 64, template=as_text(raw))


def config_strings(folder):
    from ftkit import Config

    full = " ".join(f"{k}={v}" for k, v in Config().to_dict().items())
    seeds = [full.encode(), b"method=lora learning_rate=0.001 r=8", b"batch_size=4 packing=true",
             b"target_modules=q_proj,v_proj lora_alpha=16 max_steps=None"]

    def read(raw):
        made = Config.from_string(as_text(raw))
        assert Config.from_string(str(made)) == made

    return seeds, read


def model_configs(folder):
    from ftkit.memory_use import model_shapes
    from ftkit.model import loading

    (folder / "model").mkdir()
    path = folder / "model" / "config.json"
    seeds = [(loading.tiny_path() / "config.json").read_bytes(),
             b'{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12}']
    def read(raw):
        path.write_bytes(raw)
        loading.context(str(path.parent))
        model_shapes.shape(str(path))

    return seeds, read


def adapter_folders(folder):
    from ftkit.model import adapter_folder

    (folder / "adapter").mkdir()
    path = folder / "adapter" / adapter_folder.CONFIG
    seeds = [json.dumps({"base_model_name_or_path": "tiny", "peft_type": "LORA", "r": 8,
                         "lora_alpha": 16, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
                         "bias": "none", "modules_to_save": None}, indent=1).encode()]

    def read(raw):
        path.write_bytes(raw)
        adapter_folder.base_of(path.parent)
        adapter_folder.read_config(path.parent)

    return seeds, read


def run_stores(folder):
    from ftkit.base.config import Config
    from ftkit.experiment import run, store

    made = run.Run(id="x", config=Config(), model_name="tiny", data={"name": "x"},
                   before={"val_loss": 2.0}, after={"val_loss": 1.0})
    place = folder / "home" / "runs" / "x"
    place.mkdir(parents=True)
    seeds = [json.dumps(made.to_dict()).encode(), b'{"step": 1, "loss": 2.0}\n{"step": 2}\n']

    def read(raw):
        (place / ("run.json" if raw[:3] != b'{"s' else "rows.jsonl")).write_bytes(raw)
        for found in store.list_runs():
            found.to_dict()
            repr(found)
            found._repr_html_()
        (place / "rows.jsonl").unlink(missing_ok=True)

    return seeds, read


PARSERS = [jsonl, templates, config_strings, model_configs, adapter_folders, run_stores]


def fuzz(parser, n: int, seed: int = 0) -> list[tuple[bytes, str]]:
    """Findings of `n` inputs: (input, what happened)."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["FTKIT_HOME"] = str(folder / "home")
    was = os.getcwd()
    (folder / "cwd").mkdir()
    os.chdir(folder / "cwd")
    rng, findings = random.Random(f"{parser.__name__}/{seed}"), []
    try:
        seeds, read = parser(folder)
        before = None

        def too_long(*_):
            raise TimeoutError(f"more than {LIMIT} s")

        signal.signal(signal.SIGALRM, too_long)
        for _ in range(n):
            raw = mutated(rng, seeds)
            signal.alarm(LIMIT)
            try:
                read(raw)
            except ValueError as error:
                if not str(error).strip():
                    findings.append((raw, f"an empty {type(error).__name__}"))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                findings.append((raw, f"{type(error).__name__}: {error}"[:300]))
            finally:
                signal.alarm(0)
        before = sorted(os.listdir(folder))
        if os.listdir(folder / "cwd") or set(before) - {"cwd", "home", "x.jsonl", "model",
                                                        "adapter"}:
            findings.append((b"", f"files were written: {before}"))
    finally:
        os.chdir(was)
        shutil.rmtree(folder)
    return findings


def main(n: int) -> int:
    bad = 0
    for parser in PARSERS:
        began = time.process_time()
        found = fuzz(parser, n)
        print(f"{parser.__name__}: {n:,} inputs, {len(found)} findings, "
              f"{time.process_time() - began:.0f} CPU s", flush=True)
        for raw, what in found[:5]:
            print(f"  {what}\n    {raw[:200]!r}")
        bad += len(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
