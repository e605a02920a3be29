"""What the lessons need: predict, expect, check, code from scratch, and the bug zoo."""
