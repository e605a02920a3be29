"""The mask inspector shows examples token by token and marks the tokens that are trained on."""

from ftkit.base.formatting import printable, to_html

NO_LOSS = -100  # the label of masked tokens, which torch's cross-entropy ignores
_STYLES = {  # also readable without color: trained-on tokens underlined, special tokens framed
    "loss": "background:#f5b04166;border-bottom:3px solid #b9770e",
    "none": "opacity:.7",
    "special": "border:1px dotted;border-radius:4px;font-size:85%",
}
MAX_SHOWN = 600  # tokens of one example


class BatchView:
    """Examples shown token by token; the marked tokens are trained on."""

    def __init__(self, examples: list[dict], tokenizer):
        self.examples, self.tokenizer = examples, tokenizer
        self.special = set(tokenizer.all_special_ids)
        self.tokens = sum(len(e["input_ids"]) for e in examples)
        self.supervised = sum(x != NO_LOSS for e in examples for x in e["labels"])

    def _text(self, token: int) -> str:
        if not 0 <= token < len(self.tokenizer):
            return f"[id {token}]"
        raw = str(self.tokenizer.convert_ids_to_tokens(token))
        text = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        if not text or "\ufffd" in text:  # the token is a part of a character
            return printable(raw)
        text = " " + text if raw.startswith("▁") and not text.startswith(" ") else text
        return printable(text)

    def _rows(self):
        for example in self.examples:
            pairs = zip(example["input_ids"], example["labels"], strict=True)
            yield list(pairs)[:MAX_SHOWN], max(0, len(example["input_ids"]) - MAX_SHOWN)

    def _count(self) -> str:
        share = self.supervised / max(1, self.tokens)
        noun = "example" if len(self.examples) == 1 else "examples"
        return (f"{len(self.examples)} {noun}, {self.tokens:,} tokens, "
                f"{self.supervised:,} trained on ({share:.0%})")

    def __repr__(self) -> str:
        lines = [f"{self._count()}; [in brackets]: trained on"]
        for pairs, more in self._rows():
            texts = ((self._text(i), label != NO_LOSS) for i, label in pairs)
            line = "".join(f"[{text}]" if loss else text for text, loss in texts)
            lines.append(line + (f" … {more} more tokens" if more else ""))
        return "\n\n".join(lines)

    def _span(self, token: int, label: int) -> str:
        text = self._text(token).replace(" ", "·").replace("\n", "⏎\n").replace("\t", "⇥")
        styles = [_STYLES["special"]] if token in self.special else []
        styles += [_STYLES["none" if label == NO_LOSS else "loss"]]
        title = f"id {token}, " + ("masked" if label == NO_LOSS else "trained on")
        if label not in (NO_LOSS, token):  # labels that were shifted by mistake
            title, text = f"id {token}, but label {label}", text + "≠" + self._text(label)
        return (f'<span title="{title}" style="margin:0 1px;{";".join(styles)}">'
                f"{to_html(text)}</span>")

    def _repr_html_(self) -> str:
        key = (f'<span style="{_STYLES["loss"]}">trained on</span> &nbsp; '
               f'<span style="{_STYLES["none"]}">context, masked</span> &nbsp; '
               f'<span style="{_STYLES["special"]}">special token</span> &nbsp; · space &nbsp; '
               "⏎ new line")
        body = ""
        for pairs, more in self._rows():
            spans = "<wbr>".join(self._span(*pair) for pair in pairs)
            spans += f" … {more} more tokens" if more else ""
            body += ('<div style="white-space:pre-wrap;line-height:1.9;font-family:monospace;'
                     f'margin:6px 0;border-left:3px solid #8888;padding-left:8px">{spans}</div>')
        return f"<div>{self._count()}<br>{key}</div>{body}"
