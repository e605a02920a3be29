"""A fine-tuning pipeline in twelve plain stages, and real bugs that break one stage each."""
