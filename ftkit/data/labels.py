"""The label of a token without loss, which torch's cross-entropy leaves out."""

NO_LOSS = -100
