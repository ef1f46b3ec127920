"""Determines how many tokens an example has."""
