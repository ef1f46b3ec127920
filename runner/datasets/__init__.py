"""Datasets: parse, check, estimate and upload JSONL files of tuning examples."""
