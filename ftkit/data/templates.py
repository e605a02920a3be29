"""Render records as text, and decide which parts of the text are trained on.

A record is rendered by a format string (Alpaca's, or your own) or by the tokenizer's chat
template. The result is a list of (text, whether it is trained on); joined, the texts are the input.

    segments({"instruction": "Say hi.", "output": "Hi!"}, tokenizer, "alpaca")
"""

import re
import string
from collections import Counter

from ftkit.base.errors import UserError
from ftkit.base.formatting import show
from ftkit.data import foreign, schema

# The two prompts of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca, train.py).
_INTRO = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request.\n\n"
ALPACA = f"{_INTRO}. {_REQUEST}### Instruction:\n{{instruction}}\n\n### Response:{{output}}"
ALPACA_INPUT = (
    f"{_INTRO}, paired with an input that provides further context. {_REQUEST}"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:{output}"
)
PLAIN = "{instruction}\n{input}\n{output}"

Segment = tuple[str, bool]  # (text, whether it is trained on)


HIDDEN = "\U0010f000"  # begins a hidden special token; the next character is its place in a list


class Hidden:
    """Hides special tokens in the texts of records, so that they differ from a template's own."""

    def __init__(self, tokenizer):
        self.tokens = [HIDDEN, *special_tokens(tokenizer)]
        self.pattern = re.compile("|".join(map(re.escape, self.tokens)))
        self.real = re.compile(f"({special(tokenizer).pattern})")
        self.found: Counter[str] = Counter()

    def hide(self, value):
        """Replace special tokens in a text, or in the texts of a record; equal if it has none."""
        if isinstance(value, str):
            return self.pattern.sub(self._mark, value)
        if isinstance(value, list):
            return [self.hide(part) for part in value]
        return {k: self.hide(v) for k, v in value.items()} if isinstance(value, dict) else value

    def _mark(self, match: re.Match) -> str:
        self.found[match.group()] += 1
        return HIDDEN + chr(ord(HIDDEN) + 1 + self.tokens.index(match.group()))

    def show(self, text: str) -> str:
        """Return a text with the tokens that `hide` replaced."""
        return re.sub(f"{HIDDEN}(.)", lambda found: self.tokens[ord(found[1]) - ord(HIDDEN) - 1],
                      text)


def special_tokens(tokenizer) -> list[str]:
    """Every special token, the longest first."""
    known = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    return sorted((known | set(tokenizer.all_special_tokens)) - {""}, key=len, reverse=True)


def special(tokenizer) -> re.Pattern:
    """A pattern that matches every special token."""
    return re.compile("|".join(map(re.escape, special_tokens(tokenizer))) or r"(?!)")


def uses_thoughts(tokenizer, template: str | None) -> bool:
    """Whether the thought before an answer is written: by chat templates that know it."""
    return template in (None, "chat") and any(
        name in str(tokenizer.chat_template) for name in foreign.REASONING)


def segments(records: list[dict], tokenizer, template: str | None, to_answer: bool = False,
             ) -> list[tuple[list[Segment], bool]]:
    """Render each record; returns (segments, whether BOS must still be prepended) for each.

    template: see `encoding.encode_all`. to_answer: stop before the last answer. Raises Rejected if
    the chat template rejects a conversation or gives no reliable mask.
    """
    eos = tokenizer.eos_token or ""
    made: list = [None] * len(records)
    others = []
    for i, record in enumerate(records):
        if schema.kind_of(record) == "text":
            made[i] = ([(record["text"] + ("" if to_answer else eos), True)], True)
        else:
            others.append(i)
    chosen = choose(tokenizer, template) if others else None
    if chosen is None:
        try:
            lines = _chats([_messages(records[i]) for i in others], tokenizer, to_answer,
                           [records[i].get("tools") for i in others])
        except Rejected as error:
            raise Rejected(others[error.index], str(error)) from None
    else:
        for i in others:
            if foreign.uses_tools(records[i]):
                raise Rejected(i, schema.TOOLS)
        lines = [_filled(records[i], chosen, eos) for i in others]
        lines = [line[:-1] for line in lines] if to_answer else lines
    for i, line in zip(others, lines, strict=True):
        made[i] = (line, chosen is not None)
    return made


def end_of_turn(tokenizer) -> str | None:
    """Find the special token that the chat template writes after an answer; None without one."""
    if not tokenizer.chat_template:
        return None
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        text = _chats([chat], tokenizer, False, [None])[0][1][0]
    except Rejected:
        return None
    found = [match.group() for match in special(tokenizer).finditer(text)]
    return found[-1] if found else None


def choose(tokenizer, template: str | None) -> str | None:
    """Return the format string to use, or None to use the tokenizer's chat template."""
    if template is None:
        template = "chat" if tokenizer.chat_template else "alpaca"
    if template == "chat":
        if not tokenizer.chat_template:
            raise UserError("template is 'chat', but this tokenizer has no chat template; expected "
                            "alpaca, plain or a format string")
        return None
    if template in ("alpaca", "plain"):
        return {"alpaca": ALPACA, "plain": PLAIN}[template]
    want = "expected chat, alpaca, plain, or text with {instruction}, {input} and {output}"
    try:
        template.encode()  # fails for half of a surrogate pair
        parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"template {show(template)} is not valid ({error}); {want}") from None
    fields = [f"{name}{spec and ':' + spec}{'!' + how if how else ''}" for name, spec, how in parts]
    if set(fields) - {"instruction", "input", "output"} or fields.count("output") != 1:
        raise UserError(f"template {show(template)} has the fields {fields or 'none'}; {want}")
    return template


def _fill(template: str, instruction: str, text: str, output: str, eos: str) -> list[Segment]:
    """Render one question and answer. An empty input is removed with the white space before it."""
    if text and template == ALPACA:
        template = ALPACA_INPUT
    if text and "{input}" not in template:
        instruction, text = f"{instruction}\n{text}", ""
    if not text:
        template = re.sub(r"\s*\{input\}", "", template)
    before, _, after = template.partition("{output}")
    prompt = before.format(instruction=instruction, input=text)
    after = after.format(instruction=instruction, input=text)
    # In nearly every vocabulary the space before the answer belongs to its first token.
    kept = prompt.rstrip(" ")
    answer = prompt[len(kept) :] + output + after
    return [(kept, False), (answer if eos and answer.endswith(eos) else answer + eos, True)]


def _filled(record: dict, template: str, eos: str) -> list[Segment]:
    """Render a record with a format string, once for each turn of a conversation."""
    if "messages" not in record and not record.get("history"):
        return _fill(template, record["instruction"], record.get("input") or "",
                     schema.response_of(record), eos)
    segments, said = [], []
    for message in _messages(record):
        if message["role"] == "assistant":
            asked, answer = _fill(template, "\n\n".join(said), "", message["content"], eos)
            segments += [asked, (answer[0], schema.is_trained(message))]
            said = []
        elif message["content"]:
            said.append(message["content"])
    return segments


def _messages(record: dict) -> list[dict]:
    if "messages" in record:
        return record["messages"]
    return [*(record.get("history") or ()), {"role": "user", "content": schema.question_of(record)},
            {"role": "assistant", "content": schema.response_of(record)}]


class Rejected(ValueError):
    """The chat template rejects conversation `index`, or its loss mask would be a guess."""

    def __init__(self, index: int, why: str):
        super().__init__(why)
        self.index = index


def _renderer(tokenizer, tools: list):
    """A function of (index, messages, whether to open an assistant turn) that applies the chat
    template. The template sees role, content, the thought, tools and calls, nothing else."""
    from transformers import PreTrainedTokenizerBase

    from ftkit.data import template_limits

    usual = PreTrainedTokenizerBase.apply_chat_template
    tokens, is_usual = tokenizer.special_tokens_map, type(tokenizer).apply_chat_template is usual

    def message(given: dict) -> dict:
        thought = next((given[name] for name in foreign.REASONING if given.get(name)), None)
        tools = {name: given[name] for name in ("tool_calls", "tool_call_id", "name")
                 if name in given and (name != "name" or given["role"] == "tool")}
        return {"role": given["role"], "content": given["content"]} | tools | (
            dict.fromkeys(foreign.REASONING, thought) if thought else {})

    def render(index: int, messages: list[dict], ask: bool) -> str:
        chat, listed = [message(m) for m in messages], tools[index] or None
        try:
            if not is_usual:
                return tokenizer.apply_chat_template(chat, tools=listed, tokenize=False,
                                                     add_generation_prompt=ask)
            source = tokenizer.get_chat_template(tools=listed)
            if listed and "tools" not in source:
                raise UserError(schema.TOOLS)
            return template_limits.compiled(source).render(
                tokens | {"messages": chat, "tools": listed, "documents": None,
                          "add_generation_prompt": ask, "_budget": template_limits.Budget()})
        except Exception as error:  # noqa: BLE001  a template may raise anything
            if str(error) == schema.TOOLS:
                raise Rejected(index, schema.TOOLS) from None
            raise Rejected(index, "the tokenizer's chat template rejects this conversation "
                           f"({show(str(error) or type(error).__name__, 80)}). Change the "
                           "conversation, or choose another template, such as alpaca.") from None

    return render


def _chats(chats: list[list[dict]], tokenizer, to_answer: bool, tools: list,
           ) -> list[list[Segment]]:
    """Render conversations with the tokenizer's chat template; returns their segments.

    Each assistant turn is trained on, from the end of its header through its end-of-turn token,
    unless its weight is 0. To locate a turn, the template renders the conversation up to the turn,
    without it and with it. Both texts must be prefixes of the whole conversation; otherwise the
    mask would be a guess, and the record is rejected. to_answer: stop before the last answer.
    tools: the tool definitions of each conversation, or None.
    """
    if to_answer:
        chats = [c[:-1] if c[-1]["role"] == "assistant" else c for c in chats]
    turns = [(i, k) for i, c in enumerate(chats) for k, m in enumerate(c)
             if m["role"] == "assistant"]
    render = _renderer(tokenizer, tools)
    asked = [render(i, chats[i][:k], True) for i, k in turns]
    ended = [render(i, chats[i][: k + 1], False) for i, k in turns]
    whole = {i: text for (i, k), text in zip(turns, ended, strict=True) if k == len(chats[i]) - 1}
    whole |= {i: render(i, chat, to_answer) for i, chat in enumerate(chats)
              if to_answer or i not in whole}

    ends = special(tokenizer)
    lines: list[list[Segment]] = [[] for _ in chats]
    at = [0] * len(chats)
    for (i, k), before, until in zip(turns, asked, ended, strict=True):
        try:
            answer = _answer(before, until, whole[i], chats[i][k]["content"].strip(), ends)
        except ValueError as error:
            raise Rejected(i, f"messages[{k}]: {error}") from None
        if any(call["function"]["name"] not in answer
               for call in chats[i][k].get("tool_calls", ())):
            raise Rejected(i, schema.TOOLS)
        lines[i] += [(whole[i][at[i] : len(before)], False),
                     (answer, schema.is_trained(chats[i][k]))]
        at[i] = len(before) + len(answer)
    for i, line in enumerate(lines):
        tail = whole[i][at[i] :]
        if line and not tail.strip() and not ends.search(line[-1][0]):
            line[-1] = (line[-1][0] + (tokenizer.eos_token or ""), line[-1][1])
        line.append((tail, False))
    return lines


def _answer(before: str, until: str, whole: str, said: str, ends: re.Pattern) -> str:
    """Extract the part of a rendered answer to train on: through its end-of-turn token.

    before: the conversation up to the answer. until: the same with the answer as the last turn.
    Raises UserError if the answer is different in `whole`, the complete conversation.
    """
    if not (until.startswith(before) and whole.startswith(before)):
        raise UserError("the chat template's generation prompt contains text that a finished "
                        "conversation lacks (such as the start of a thought), so the labels would "
                        "be wrong. Choose another template, such as alpaca.")
    answer = until[len(before) :]
    found = [match.end() for match in ends.finditer(answer)]
    answer = answer[: found[-1]] if found else answer.rstrip()
    if not whole.startswith(before + answer):
        # Some templates end the last turn with an additional token.
        answer = next((answer[:stop] for stop in reversed(found)
                       if whole.startswith(before + answer[:stop])), "")
        if said not in answer:
            raise UserError("the chat template renders this answer differently when other turns "
                            "follow it (it may drop thoughts), so the labels would be wrong. Make "
                            "each answer a record of its own.")
    if said[-30:] not in answer:
        raise UserError("the chat template leaves out the assistant's text (it may expect content "
                        "to be a list). Choose another template, such as alpaca.")
    return answer
