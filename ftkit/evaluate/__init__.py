"""How good a model is: answers, exact match, metrics, perplexity, pairwise judging."""
