"""Output folders: whose they are, what the job left there, and what may be deleted."""
