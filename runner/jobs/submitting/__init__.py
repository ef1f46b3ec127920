"""Create a tuning job once: check, price, get approval, look for obstacles, upload, claim, create, record."""
