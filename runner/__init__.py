"""Managed tuning of open models on Google Cloud as ordinary engineering: a command line and the library behind it."""
