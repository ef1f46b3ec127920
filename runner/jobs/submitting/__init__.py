"""Create a tuning job once: check, price, agree, obstacles, upload, claim, create, record."""
