"""Solutions of lesson 06, and the mistakes that people make."""


def made(**changes):
    right = {"BloombergGPT": "from scratch", "Med-PaLM": "prompt tuning",
             "Code Llama": "continued pretraining", "Alpaca": "instruction tuning",
             "TAPT": "continued pretraining"}
    return right | {name.replace("_", " "): kind for name, kind in changes.items()}


def rows(parts):
    return [{"input_ids": part, "labels": [-100, *part[1:]]} for part in parts]


def text_blocks(texts, eos, length):
    stream = [i for text in texts for i in [*text, eos]]
    return rows(stream[i : i + length] for i in range(0, len(stream), length))


def blocks_without_eos(texts, eos, length):
    stream = [i for text in texts for i in text]
    return rows(stream[i : i + length] for i in range(0, len(stream), length))


def blocks_that_lose_the_end(texts, eos, length):
    return [row for row in text_blocks(texts, eos, length) if len(row["input_ids"]) == length]


def a_row_each(texts, eos, length):
    return rows([*text, eos][:length] for text in texts)


def blocks_with_a_masked_half(texts, eos, length):
    return [{"input_ids": row["input_ids"],
             "labels": [-100] * (length // 2) + row["input_ids"][length // 2 :]}
            for row in text_blocks(texts, eos, length)]


def gpu_hours(parameters, tokens, flops, utilisation):
    return 6 * parameters * tokens / (flops * utilisation) / 3600


SOLUTIONS = {
    "how_it_was_made": {
        "right": made(),
        "wrong": {
            "BloombergGPT fine-tuned": (made(BloombergGPT="continued pretraining"), "not adapted"),
            "Med-PaLM fine-tuned": (made(**{"Med-PaLM": "instruction tuning"}), "stayed frozen"),
            "TAPT is instruction tuning": (made(TAPT="instruction tuning"), "no label"),
            "Code Llama from scratch": (made(Code_Llama="from scratch"), "Llama 2 continued"),
        },
    },
    "text_blocks": {
        "right": text_blocks,
        "wrong": {
            "no EOS": (blocks_without_eos, "runs into the next"),
            "the end is lost": (blocks_that_lose_the_end, "thrown away"),
            "a row for each text": (a_row_each, "join all of them"),
            "half of it masked": (blocks_with_a_masked_half, "a text has no prompt"),
        },
    },
    "gpu_hours": {
        "right": gpu_hours,
        "wrong": {
            "forward only": (lambda n, d, f, u: 2 * n * d / (f * u) / 3600, "the forward pass"),
            "peak": (lambda n, d, f, u: 6 * n * d / f / 3600, "reaches the peak"),
            "seconds": (lambda n, d, f, u: 6 * n * d / (f * u), "that is seconds"),
        },
    },
}
