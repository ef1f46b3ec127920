"""Fuzzing: breaks external input at random, and looks for crashes, hangs and memory growth."""
