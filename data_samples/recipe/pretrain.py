"""Pretrains the embedded base `tiny` from nothing: tokenizer, weights, log.

    python data_samples/recipe/pretrain.py        # writes ftkit/model/tiny, pretrain_log.jsonl

About 50 minutes on one core; the same seed on the same machine gives the same model. Matrices are
trained by Muon, the rest by AdamW; the rate warms up, stays constant and decays linearly to zero
over the last fifth of the steps. The weights start from a copying circuit laid by hand (`initial`);
rows of random tokens said again and again, more of them at first, keep it in use.
"""

import argparse
import ctypes
import json
import math
import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import corpus  # noqa: E402
import probes  # noqa: E402
import world  # noqa: E402

HERE = Path(__file__).parent
VOCABULARY = 3072
HIDDEN, LAYERS, HEADS, MLP = 192, 4, 3, 512
POSITIONS = 512
LENGTH = 256  # tokens in a row
BATCH = 16  # rows in a step
CHUNK = 6000  # documents generated at a time
STEPS = 7_200
LATE_CHUNK, LAST_CHUNK = 60, 100  # from here on the corpus is mixed by LATE_MIX, LAST_MIX
WARMUP = 300
DECAY = 0.2  # share of the steps in which the rate falls to zero
MUON_RATE, ADAMW_RATE = 0.01, 4e-3
EVERY_CHUNKS = 20  # chunks between two rows of the log

# Rendered so that the answer's first token has its space, as in running text. The words "User:" and
# "Assistant:" occur nowhere in the corpus: the base knows the facts and not the form.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "Assistant:{% generation %} {{ message['content'] | trim }}{{ eos_token }}{% endgeneration %}"
    "{% else %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\n"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def train_tokenizer():
    """Byte-level BPE with single digits; separate tokens for begin, end and padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    bpe.decoder = decoders.ByteLevel()
    words = " ".join(sorted(table_words()))
    turns = ["User: What is it? Name it.\nAssistant: it\nSystem: Answer.\n"] * 300
    bpe.train_from_iterator(
        corpus.documents(60_000, "tokenizer") + turns + [words] * 60,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, show_progress=False,
            special_tokens=["<|pad|>", "<|bos|>", "<|eos|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>",
        model_max_length=POSITIONS)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def table_words():
    """Every word of the tables in `world`, so that hardly any fact is spelled in pieces."""
    strings = [s for table in vars(world).values() if isinstance(table, list)
               for row in table for s in ([row] if isinstance(row, str) else row)]
    return {word for s in strings if s for word in s.split()}


def new_model(tokenizer, seed):
    import initial  # needs torch, which the process that makes the rows does without
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, intermediate_size=MLP,
        max_position_embeddings=POSITIONS, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))
    initial.lay_copying_circuit(model, seed)
    return model


# ---- rows of tokens, made in a second process while the first one trains

_tokenizer = None


def _start_worker(folder):
    global _tokenizer
    from tokenizers import Tokenizer

    os.nice(20)
    _tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def make_rows(seed, chunk=0):
    """Rows of LENGTH tokens: each starts with a document; what does not fit is cut."""
    begin, end = _tokenizer.token_to_id("<|bos|>"), _tokenizer.token_to_id("<|eos|>")
    rows, row = [], []
    mix = corpus.MIX
    if chunk >= LATE_CHUNK:
        mix = corpus.LATE_MIX if chunk < LAST_CHUNK else corpus.LAST_MIX
    documents = corpus.documents(CHUNK, f"{seed} {chunk}" if seed != "held out" else seed, mix)
    for encoding in _tokenizer.encode_batch(documents, add_special_tokens=False):
        row += [begin, *encoding.ids, end]
        if len(row) >= LENGTH:
            rows.append(row[:LENGTH])
            row = []
    return rows


def repeated_rows(count, vocabulary, begin, rng):
    """Rows of random tokens with a period, and their labels: no loss on the first time round."""
    import torch

    rows = torch.full((count, LENGTH), begin)
    labels = torch.full((count, LENGTH), -100)
    for i in range(count):
        period = rng.randint(4, 60)
        once = [rng.randrange(3, vocabulary) for _ in range(period)]
        row = (once * (LENGTH // period + 1))[: LENGTH - 1]
        rows[i, 1:] = torch.tensor(row)
        labels[i, 1 + period:] = rows[i, 1 + period:]
    return rows, labels


# ---- measuring


def perplexity(model, rows):
    import torch

    total = count = 0
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for i in range(0, len(rows), 16):
            ids = torch.tensor(rows[i:i + 16])
            total += model(input_ids=ids, labels=ids).loss.item() * ids.size(0)
            count += ids.size(0)
    model.train()
    return math.exp(total / count)


def copied_share(model, vocabulary, begin):
    """Share of the tokens of random sequences, said again, that are predicted right."""
    import torch

    ids, labels = repeated_rows(16, vocabulary, begin, random.Random("copied"))
    model.eval()
    with torch.no_grad():
        best = model(input_ids=ids).logits[:, :-1].argmax(-1)
    model.train()
    counted = labels[:, 1:] != -100
    return ((best == labels[:, 1:]) & counted).sum().item() / counted.sum().item()


def probe_scores(model, tokenizer, records):
    """Share of probes of each ability whose every answer token is the most likely one."""
    import torch

    right = {}
    model.eval()
    for i in range(0, len(records), 40):
        part = records[i:i + 40]
        prompts, answers = (tokenizer([r[key] for r in part], add_special_tokens=False).input_ids
                            for key in ("prompt", "answer"))
        pairs = [([tokenizer.bos_token_id] + p, a) for p, a in zip(prompts, answers, strict=True)]
        width = max(len(p) + len(a) for p, a in pairs)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([p + a + [pad] * (width - len(p + a)) for p, a in pairs])
        with torch.no_grad():
            best = model(input_ids=ids).logits.argmax(-1)
        for row, (prompt, answer), record in zip(best.tolist(), pairs, part, strict=True):
            start = len(prompt) - 1
            right.setdefault(record["ability"], []).append(row[start:start + len(answer)] == answer)
    model.train()
    return {ability: round(sum(v) / len(v), 3) for ability, v in right.items()}


# ---- training


def optimizers(model):
    """(optimizer, its full rate): Muon for the matrices of the layers, AdamW for the rest."""
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    return [
        (torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01, momentum=0.95,
                          adjust_lr_fn="original"), MUON_RATE),
        (torch.optim.AdamW(others, lr=ADAMW_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
         ADAMW_RATE),
    ]


def rate(step, steps):
    """Share of the full rate: warm-up, constant, linear decay."""
    return min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


def training_loss(model, ids, labels):
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        logits = hidden.reshape(-1, hidden.size(-1)) @ model.lm_head.weight.t()
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:].reshape(-1))


def keep_freed_memory():
    """Asks glibc to reuse big blocks instead of returning them, for 30 % faster steps."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "ftkit" / "model" / "tiny")
    parser.add_argument("--log", type=Path, default=HERE / "pretrain_log.jsonl")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    args = parser.parse_args()

    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    state_file = args.out / "state.pt"
    step = chunk = 0
    started = time.time()
    if args.resume:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
        model = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32)
        model.train()
        state = torch.load(state_file)
        step, chunk = state["step"], state["chunk"]
        started -= state["seconds"]
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        args.log.unlink(missing_ok=True)
        tokenizer = train_tokenizer()
        tokenizer.save_pretrained(args.out)
        model = new_model(tokenizer, args.seed)
    optims = optimizers(model)
    if args.resume:
        for (optimizer, _), saved in zip(optims, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    workers = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(args.out,))
    probe_records = probes.build()
    losses = []
    with workers as pool:
        held_out = pool.submit(make_rows, "held out").result()[:100]
        coming = pool.submit(make_rows, args.seed, chunk)
        while step < args.steps:
            rows = coming.result()
            coming = pool.submit(make_rows, args.seed, chunk + 1)
            rng = random.Random(f"rows {args.seed} {chunk}")
            rng.shuffle(rows)
            for i in range(0, len(rows) - BATCH + 1, BATCH):
                if step == args.steps:
                    break
                ids = torch.tensor(rows[i:i + BATCH])
                labels = ids.clone()
                share = 0.25 if step < 300 else 0.1 if step < 1500 else 0.03
                count = sum(rng.random() < share for _ in range(BATCH))
                if count:
                    ids[:count], labels[:count] = repeated_rows(
                        count, len(tokenizer), tokenizer.bos_token_id, rng)
                for optimizer, full in optims:
                    for group in optimizer.param_groups:
                        group["lr"] = full * rate(step, args.steps)
                loss = training_loss(model, ids, labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer, _ in optims:
                    optimizer.step()
                model.zero_grad(set_to_none=True)
                losses.append(loss.item())
                step += 1
            chunk += 1
            if chunk % EVERY_CHUNKS == 0 or step == args.steps or chunk in (2, 5, 10):
                scores = probe_scores(model, tokenizer, probe_records)
                row = {
                    "step": step, "tokens": step * BATCH * LENGTH,
                    "seconds": round(time.time() - started),
                    "loss": round(sum(losses) / len(losses), 4),
                    "perplexity": round(perplexity(model, held_out), 4),
                    "copied": round(copied_share(model, len(tokenizer), tokenizer.bos_token_id), 3),
                    "mean_probe": round(sum(scores.values()) / len(scores), 3), "probes": scores,
                }
                losses = []
                with args.log.open("a") as log:
                    log.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
                model.save_pretrained(args.out)
                torch.save({"step": step, "chunk": chunk, "seconds": row["seconds"],
                            "optimizers": [o.state_dict() for o, _ in optims]}, state_file)
    state_file.unlink()


if __name__ == "__main__":
    main()
