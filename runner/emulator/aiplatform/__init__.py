"""Vertex AI: tuning jobs, models, endpoints and what they answer."""
