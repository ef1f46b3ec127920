"""Datasets written from datasets: mended, converted, split."""
