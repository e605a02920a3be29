"""What a run looks like: figure style, curves, tables, the live chart, diagnosis."""
