"""The quickstart: all steps once, on this machine."""
