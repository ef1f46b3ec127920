"""How many tokens an example has."""
