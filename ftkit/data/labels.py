"""The label of masked tokens, which torch's cross-entropy ignores."""

NO_LOSS = -100
