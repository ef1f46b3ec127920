"""The serving process of one deployed model."""
