"""Runs that can be compared: Experiment, Run and its store, sweeps, preferences."""
