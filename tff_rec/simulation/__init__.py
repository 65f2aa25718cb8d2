"""Execution contexts, the round loop, checkpoints and reports."""
