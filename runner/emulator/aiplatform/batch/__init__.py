"""Batch prediction jobs, which use the serving code of deployed models."""
