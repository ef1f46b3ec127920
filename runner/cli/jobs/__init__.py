"""`runner jobs`."""
