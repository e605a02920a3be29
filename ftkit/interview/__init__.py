"""Interview preparation: question bank, cards, drill, mock interview, clinic, proofs."""
