"""`runner data`."""
