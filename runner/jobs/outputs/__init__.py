"""Output folders: their owner, the results of the job, and what may be deleted."""
