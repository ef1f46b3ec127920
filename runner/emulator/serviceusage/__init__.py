"""Service Usage: the enabled APIs of a project."""
