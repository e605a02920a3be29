"""From a file to labeled tokens: reading, validation, audit, chat templates, encoding, mixing."""
