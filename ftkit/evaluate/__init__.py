"""Evaluate a model: answers, exact match, metrics, perplexity, pairwise judging."""
