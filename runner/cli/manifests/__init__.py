"""`runner plan`, `apply`, `drift`, `queue` and `schema`."""
