"""Tests of `runner.datasets.reading`."""
