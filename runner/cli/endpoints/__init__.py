"""`runner endpoints`."""
