"""Vertex AI: tuning jobs, models, endpoints and predictions."""
