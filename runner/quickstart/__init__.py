"""The quickstart: the whole way once, on this machine."""
