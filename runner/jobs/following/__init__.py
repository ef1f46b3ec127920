"""What jobs do and have done: states, progress, losses, causes of failures."""
