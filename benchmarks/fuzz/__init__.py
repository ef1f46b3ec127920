"""Breaks what comes from outside at random, and looks for crashes, hangs and growth."""
