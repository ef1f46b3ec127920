"""`runner predict`, `chat`, `batch` and `eval`: commands that ask deployed models."""
