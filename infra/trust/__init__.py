"""Which pipeline may act as which account."""
