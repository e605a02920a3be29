"""Find records that should not be trained on although they are valid.

    for field, problem in suspicions(record, "instruction", private): ...

Keys are found by detect-secrets and telephone numbers by phonenumbers, where they are installed.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

NO_ANSWER = {"n/a", "#n/a", "nan", "todo", "tbd", "--", "...", "…", "no answer", "[deleted]"}
MAIL = re.compile(r"\b[\w.+-]+@(?!example\.)[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)
CUT = re.compile(r"(,|\(|\b(and|or|the|an|of|to|with|for|because))$", re.IGNORECASE)
GUESSED = ("HighEntropy", "Keyword", "IPPublic")  # detectors that take words for keys
MISSING = "keys and telephone numbers were not looked for: pip install 'ftkit[privacy]'"


@contextlib.contextmanager
def searching() -> Iterator[Callable[[str], str | None]]:
    """Yield a function that names the first personal datum or key in a text."""
    if not find_spec("detect_secrets") or not find_spec("phonenumbers"):
        yield lambda text: "an e-mail address" if MAIL.search(text) else None
        return
    import phonenumbers
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import transient_settings

    names = [kind.__name__ for kind in get_mapping_from_secret_type_to_class().values()]
    chosen = [{"name": name} for name in names if not any(word in name for word in GUESSED)]

    def found(text: str) -> str | None:
        if MAIL.search(text):
            return "an e-mail address"
        if "+" in text and phonenumbers.PhoneNumberMatcher(text, None).has_next():
            return "a telephone number"
        return next((f"a key ({secret.type})" for line in text.splitlines()
                     for secret in scan_line(line)), None)

    with transient_settings({"plugins_used": chosen}):
        yield found


def suspicions(texts: Sequence[tuple[str, str]], response: str, private) -> Iterator[tuple]:
    """Yield (field, problem) for each reason to leave a record out.

    texts: (field, text) of everything that is tokenized. response: the target. private: what
    `searching` yields.
    """
    answer = response.strip()
    if answer.lower() in NO_ANSWER:
        yield None, f"the answer is {answer!r}, which is none"
    elif answer.count("```") % 2 or (len(answer) > 60 and CUT.search(answer)):
        yield None, f"the answer seems cut off (it ends in {answer[-20:]!r})"
    for field, text in texts:
        found = private(text)
        if found:
            yield field, f"contains {found}"
