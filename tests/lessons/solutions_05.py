"""Solutions of lesson 05, right variants, and the mistakes that people make."""

import torch
from shown_solutions import shown

render_chatml = shown("render_chatml")
labels_of = shown("labels_of")
packed_mask = shown("packed_mask")

START, END = "<|im_start|>", "<|im_end|>"


def joined(messages, add_generation_prompt):
    turns = [START + m["role"] + "\n" + m["content"] + END + "\n" for m in messages]
    if add_generation_prompt:
        turns.append(START + "assistant\n")
    return "".join(turns)


def by_jinja(messages, add_generation_prompt):
    import jinja2

    template = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>"
                "{{ '\n' }}{% endfor %}{% if ask %}<|im_start|>assistant{{ '\n' }}{% endif %}")
    return jinja2.Template(template, keep_trailing_newline=True).render(
        messages=messages, ask=add_generation_prompt)


def without_newline_after_end(messages, add_generation_prompt):
    return render_chatml(messages, add_generation_prompt).replace(END + "\n", END)


def without_newline_after_role(messages, add_generation_prompt):
    text = "".join(f"{START}{m['role']}{m['content']}{END}\n" for m in messages)
    return text + f"{START}assistant" * add_generation_prompt


def closed_prompt(messages, add_generation_prompt):
    closed = [{"role": "assistant", "content": ""}] * add_generation_prompt
    return render_chatml([*messages, *closed], False)


def in_torch(ids, prompt, length):
    labels = torch.tensor(ids)
    labels[:prompt] = -100
    labels[length:] = -100
    return labels.tolist()


def block_diag(lengths):
    see = torch.block_diag(*[torch.ones(n, n).tril() for n in lengths])
    return see, torch.cat([torch.arange(n) for n in lengths])


def bool_rows(lengths):
    see, start = [], 0
    for n in lengths:
        for i in range(n):
            see.append([start <= j <= start + i for j in range(sum(lengths))])
        start += n
    return see, packed_mask(lengths)[1]


def causal_only(lengths):
    n = sum(lengths)
    return [[int(j <= i) for j in range(n)] for i in range(n)], packed_mask(lengths)[1]


def blocks_only(lengths):
    owner = [k for k, n in enumerate(lengths) for _ in range(n)]
    return [[int(a == b) for b in owner] for a in owner], packed_mask(lengths)[1]


def not_itself(lengths):
    see, positions = packed_mask(lengths)
    return [[x * (i != j) for j, x in enumerate(row)] for i, row in enumerate(see)], positions


SOLUTIONS = {
    "render_chatml": {
        "variants": [joined, by_jinja],
        "wrong": {
            "no generation prompt": (
                lambda messages, add_generation_prompt: render_chatml(messages, False),
                "must end with the opening"),
            "always a generation prompt": (
                lambda messages, add_generation_prompt: render_chatml(messages, True),
                "add it only if asked"),
            "no end of turn": (
                lambda messages, add_generation_prompt: (
                    render_chatml(messages, add_generation_prompt).replace(END, "")),
                "no turn has an end"),
            "no newline after the end": (without_newline_after_end, "the newline after <|im_end|>"),
            "no newline after the role": (without_newline_after_role, "newline after the role"),
            "closed generation prompt": (closed_prompt, "is closed already"),
        },
    },
    "labels_of": {
        "variants": [
            lambda ids, prompt, length: (
                [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)),
            in_torch],
        "wrong": {
            "masked by id": (
                lambda ids, prompt, length: (
                    [-100 if i < prompt or x == ids[-1] else x for i, x in enumerate(ids)]),
                "masking by id"),
            "padding learned": (
                lambda ids, prompt, length: [-100 if i < prompt else x for i, x in enumerate(ids)],
                "padding is trained on"),
            "question learned": (
                lambda ids, prompt, length: [x if i < length else -100 for i, x in enumerate(ids)],
                "the question is trained on"),
            "shifted": (lambda ids, prompt, length: labels_of(ids, prompt, length)[1:] + [-100],
                        "shifted by one"),
            "one token short": (lambda ids, prompt, length: labels_of(ids, prompt, length - 1),
                                "end one before it"),
            "to the first EOS": (lambda ids, prompt, length: labels_of(
                ids, prompt, ids.index(2, prompt) + 1), "at the first EOS"),
            "marks": (lambda ids, prompt, length: [
                1 if prompt <= i < length else -100 for i in range(len(ids))], "the id itself"),
            "only the answer": (lambda ids, prompt, length: ids[prompt:length],
                                "3 labels for 9 ids"),
        },
    },
    "packed_mask": {
        "variants": [block_diag, bool_rows],
        "wrong": {
            "causal only": (causal_only, "sees the first"),
            "blocks that look ahead": (blocks_only, "looks ahead"),
            "positions continue": (
                lambda lengths: (packed_mask(lengths)[0], list(range(sum(lengths)))),
                "start anew"),
            "positions from 1": (
                lambda lengths: (packed_mask(lengths)[0], [i + 1 for i in packed_mask(lengths)[1]]),
                "count from 0"),
            "not itself": (not_itself, "must see itself"),
            "only itself": (lambda lengths: (torch.eye(sum(lengths)), packed_mask(lengths)[1]),
                            "only itself"),
            "nested positions": (lambda lengths: (
                packed_mask(lengths)[0], [list(range(n)) for n in lengths]), "are nested"),
            "numbers of the records": (lambda lengths: (
                packed_mask(lengths)[0], [k for k, n in enumerate(lengths) for _ in range(n)]),
                "numbers of the records"),
            "swapped": (lambda lengths: packed_mask(lengths)[::-1], "the order is the wrong way"),
        },
    },
}
