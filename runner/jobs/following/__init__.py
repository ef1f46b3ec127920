"""What jobs are doing and did: states, progress, losses, causes of failure."""
