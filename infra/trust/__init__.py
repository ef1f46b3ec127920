"""Which pipelines can act as which account."""
