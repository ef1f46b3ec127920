"""Experiments of tuning jobs, as in Vertex ML Metadata and Vertex AI TensorBoard."""
