"""Code of the scripts that `to_script` writes, as text: how a record becomes token ids and labels
(as in `data.templates` and `data.encoding`), and which records are trained on in which order (as in
`data.split_and_corrupt.split` and `engine.loop.shuffled`), without ftkit.

Parts with doubled braces are filled in by `str.format`.
"""

ENCODE = '''

def encode(record):
    """Token ids, and labels that are -100 where nothing is learned."""
    ids, labels, so_far = [], [], ""
    for text, is_trained in segments(record):
        so_far += text
        part = tokenize(text)
        if MARKS_A_START and tokenize(so_far)[: len(ids)] == ids:
            part = tokenize(so_far)[len(ids):]
        ids += part
        labels += {labels}
    ids, labels = start_with(ids, labels)
    return {{"input_ids": ids[:{max_length}], "labels": [-100, *labels[1:]][:{max_length}]}}


def tokenize(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# Tokenizers of the SentencePiece kind put a mark before the text that they are given.
MARKS_A_START = tokenize("a\\nb") != tokenize("a\\n") + tokenize("b")
'''
CHAT = '''

def segments(record):
    """Parts of the text, and whether each is trained on: every answer is, with its end of turn."""
    turns, parts, at = conversation(record), [], 0
    whole = render(turns)
    for k, turn in enumerate(turns):
        if turn["role"] == "assistant":
            start = len(render(turns[:k], add_generation_prompt=True))
            answer = whole[start : len(render(turns[: k + 1]))]
            ends = [answer.rfind(token) + len(token) for token in SPECIAL if token in answer]
            answer = answer[: max(ends)] if ends else answer.rstrip()
            parts += [(whole[at:start], False), (answer, turn.get("weight", 1) != 0)]
            at = start + len(answer)
    if not whole[at:].strip() and not any(token in parts[-1][0] for token in SPECIAL):
        parts[-1] = (parts[-1][0] + (tokenizer.eos_token or ""), parts[-1][1])
    return [*parts, (whole[at:], False)]


def render(turns, **options):
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    return tokenizer.apply_chat_template(turns, tokenize=False, **options)


SPECIAL = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
SPECIAL |= set(tokenizer.all_special_tokens)


def start_with(ids, labels):
    return ids, labels  # the chat template writes the start itself
'''
TEXT = '''

def segments(record):
    return [(record["text"] + (tokenizer.eos_token or ""), True)]
'''
FORMAT = '''

TEMPLATE = {template!r}
WITH_INPUT = {with_input!r}


def segments(record):
    """Parts of the text, and whether each is trained on: every answer is, with its EOS."""
    if "messages" not in record and not record.get("history"):
        return fill(record["instruction"], record.get("input") or "", answer_of(record), True)
    parts, said = [], []
    for turn in conversation(record):
        if turn["role"] == "assistant":
            trained = turn.get("weight", 1) != 0
            parts += fill("\\n\\n".join(said), "", turn["content"], trained)
            said = []
        elif turn["content"]:
            said.append(turn["content"])
    return parts


def fill(instruction, text, output, is_trained):
    template = WITH_INPUT if text and WITH_INPUT else TEMPLATE
    if text and "{{input}}" not in template:
        instruction, text = f"{{instruction}}\\n{{text}}", ""
    if not text:  # an empty input leaves with the white space before it
        template = re.sub(r"\\s*\\{{input\\}}", "", template)
    before, _, after = template.partition("{{output}}")
    prompt = before.format(instruction=instruction, input=text)
    kept = prompt.rstrip(" ")  # that space is part of the first token of the answer
    answer = prompt[len(kept):] + output + after.format(instruction=instruction, input=text)
    end = tokenizer.eos_token or ""
    return [(kept, False), (answer if end and answer.endswith(end) else answer + end, is_trained)]
'''
START = '''

def start_with(ids, labels):
    """A text begins with BOS where the tokenizer writes it, else with <|endoftext|>."""
    first = tokenizer.bos_token_id
    if first is None or not (tokenizer("a")["input_ids"][:1] == [first]
                             or "bos_token" in str(tokenizer.chat_template or "")):
        first = tokenizer.get_vocab().get("<|endoftext|>")
    opening = {*tokenizer.all_special_ids, first} - {tokenizer.eos_token_id}
    if first is None or ids[0] in opening:
        return ids, labels
    return [first, *ids], [-100, *labels]
'''
CONVERSATION = {"text": '''

def question(record):
    return record["text"]
''', "chat": '''

def conversation(record):  # a turn of weight 0 is not trained on
    return record["messages"]
''', "instruction": '''

def conversation(record):
    asked = "\\n".join(filter(None, (record["instruction"], record.get("input"))))
    return [*(record.get("history") or ()), {"role": "user", "content": asked},
            {"role": "assistant", "content": answer_of(record)}]


def answer_of(record):
    return record["chosen"] if "chosen" in record else record["output"]
'''}
QUESTION = '''

def question(record):
    """The turns before the last answer."""
    turns = conversation(record)
    last = max(k for k, turn in enumerate(turns) if turn["role"] == "assistant")
    return "\\n".join(turn["content"] for turn in turns[:last])
'''
SPLIT = '''\
# A tenth is for validation; records that ask the same stay on one side.
groups = {}
for i, record in enumerate(records):
    groups.setdefault(" ".join(question(record).lower().split()), []).append(i)
order, validation = list(groups.values()), set()
random.Random(0).shuffle(order)
while len(order) > 1 and (
        not validation or len(validation) + len(order[-1]) / 2 <= 0.1 * len(records)):
    validation.update(order.pop())
records = [record for i, record in enumerate(records) if i not in validation]
'''
ORDER = '''\
order, epoch = [], 0  # each epoch in a new order, every batch full
while len(order) < {count}:
    more = list(range(len(examples)))
    random.Random(f"{seed}/{{epoch}}").shuffle(more)
    order, epoch = order + more, epoch + 1
examples = [examples[i] for i in order[: {count}]]
'''
QLORA = ''', quantization_config=BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="{quant_type}", bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16)'''
INT8 = ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)"
