"""Tuning jobs, from the specification to the weights: check, price, submit once, watch, download."""
