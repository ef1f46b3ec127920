"""Service Usage: which APIs are switched on in a project."""
