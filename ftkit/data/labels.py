"""The label of a masked token; torch's cross-entropy ignores it."""

NO_LOSS = -100
