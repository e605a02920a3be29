"""Foundations of the package: Config, the machine, errors, and formatting of numbers and text."""
