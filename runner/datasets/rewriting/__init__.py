"""Creates datasets from datasets: repaired, converted, split."""
