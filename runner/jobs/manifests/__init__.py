"""Jobs from manifests in Git: plans, applying them, and the records of jobs."""
