"""Thousands of deployments through one service: does anything grow that should not? `python -m tests.soak`."""
