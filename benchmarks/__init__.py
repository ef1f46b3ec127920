"""Benchmarks: commands that print ratios."""
