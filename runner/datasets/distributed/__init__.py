"""Datasets beyond one machine: Apache Beam runs the functions for byte ranges on its workers."""
