"""`runner emulator`."""
