"""Run a job again, unchanged or with some changed values."""
