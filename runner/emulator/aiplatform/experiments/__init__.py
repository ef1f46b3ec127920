"""Experiments of tuning jobs: what Vertex ML Metadata and Vertex AI TensorBoard tell of them."""
