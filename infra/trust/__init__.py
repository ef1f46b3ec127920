"""Which pipeline may act as which account: what is bound, what tokens say, and who can therefore become whom."""
