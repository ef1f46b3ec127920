"""Turns the lines of a file into totals and findings, in this process or in several."""
