"""What `python -m benchmarks` measures: one module a subject, each with `measure(run)`."""
