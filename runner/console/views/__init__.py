"""The views of all addresses; one module for each part of the console."""
