"""Jobs from Git: manifests, what applying them would do, and their records."""
