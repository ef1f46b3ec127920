"""Batch prediction: a file of instances in, a file of predictions out, by the code that serves deployed models."""
