"""Turn files into labeled tokens: reading, validation, audit, chat templates, encoding, mixing."""
