"""Run a job again: as it was, or with some values changed."""
