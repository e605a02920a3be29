"""Solutions of lesson 05, right variants, and the mistakes that people make."""

import torch

START, END = "<|im_start|>", "<|im_end|>"


def render_chatml(messages, add_generation_prompt):
    text = ""
    for message in messages:
        text += f"{START}{message['role']}\n{message['content']}{END}\n"
    return text + f"{START}assistant\n" * add_generation_prompt


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


def never_asks(messages, add_generation_prompt):
    return render_chatml(messages, False)


def always_asks(messages, add_generation_prompt):
    return render_chatml(messages, True)


def without_end(messages, add_generation_prompt):
    return render_chatml(messages, add_generation_prompt).replace(END, "")


def without_newline_after_end(messages, add_generation_prompt):
    return render_chatml(messages, add_generation_prompt).replace(END + "\n", END)


def without_newline_after_role(messages, add_generation_prompt):
    text = "".join(f"{START}{m['role']}{m['content']}{END}\n" for m in messages)
    return text + f"{START}assistant" * add_generation_prompt


def closed_prompt(messages, add_generation_prompt):
    closed = [{"role": "assistant", "content": ""}] * add_generation_prompt
    return render_chatml([*messages, *closed], False)


def labels_of(ids, prompt, length):
    return [x if prompt <= i < length else -100 for i, x in enumerate(ids)]


def by_slices(ids, prompt, length):
    return [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)


def in_torch(ids, prompt, length):
    labels = torch.tensor(ids)
    labels[:prompt] = -100
    labels[length:] = -100
    return labels.tolist()


def by_id(ids, prompt, length):
    return [-100 if i < prompt or x == ids[-1] else x for i, x in enumerate(ids)]


def padding_learned(ids, prompt, length):
    return [-100 if i < prompt else x for i, x in enumerate(ids)]


def question_learned(ids, prompt, length):
    return [x if i < length else -100 for i, x in enumerate(ids)]


def shifted(ids, prompt, length):
    return labels_of(ids, prompt, length)[1:] + [-100]


def only_the_answer(ids, prompt, length):
    return ids[prompt:length]


def packed_mask(lengths):
    owner = [k for k, n in enumerate(lengths) for _ in range(n)]
    see = [[int(j <= i and owner[i] == owner[j]) for j in range(len(owner))]
           for i in range(len(owner))]
    return see, [i for n in lengths for i in range(n)]


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


def running_positions(lengths):
    return packed_mask(lengths)[0], list(range(sum(lengths)))


def from_one(lengths):
    return packed_mask(lengths)[0], [i + 1 for i in packed_mask(lengths)[1]]


def not_itself(lengths):
    see, positions = packed_mask(lengths)
    return [[x * (i != j) for j, x in enumerate(row)] for i, row in enumerate(see)], positions


SOLUTIONS = {
    "render_chatml": {
        "right": render_chatml,
        "variants": [joined, by_jinja],
        "wrong": {
            "no generation prompt": (never_asks, "must end with the opening"),
            "always a generation prompt": (always_asks, "add it only if asked"),
            "no end of turn": (without_end, "no turn has an end"),
            "no newline after the end": (without_newline_after_end, "the newline after <|im_end|>"),
            "no newline after the role": (without_newline_after_role, "newline after the role"),
            "closed generation prompt": (closed_prompt, "is closed already"),
        },
    },
    "labels_of": {
        "right": labels_of,
        "variants": [by_slices, in_torch],
        "wrong": {
            "masked by id": (by_id, "masking by id"),
            "padding learned": (padding_learned, "padding is trained on"),
            "question learned": (question_learned, "the question is trained on"),
            "shifted": (shifted, "shifted by one"),
            "only the answer": (only_the_answer, "3 labels for 9 ids"),
        },
    },
    "packed_mask": {
        "right": packed_mask,
        "variants": [block_diag, bool_rows],
        "wrong": {
            "causal only": (causal_only, "sees the first"),
            "blocks that look ahead": (blocks_only, "looks ahead"),
            "positions continue": (running_positions, "start anew"),
            "positions from 1": (from_one, "count from 0"),
            "not itself": (not_itself, "must see itself"),
        },
    },
}
