"""Datasets beyond one machine: the functions of byte ranges, run by Apache Beam wherever its workers are."""
