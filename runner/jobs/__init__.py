"""Tuning jobs from specification to weights: check, price, submit once, watch, fetch."""
