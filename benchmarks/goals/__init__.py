"""The subjects of `python -m benchmarks`: one module for each, with a function `measure(run)`."""
