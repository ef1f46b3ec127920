"""`runner checkpoints`."""
