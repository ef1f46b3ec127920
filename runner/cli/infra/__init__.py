"""`runner infra`."""
