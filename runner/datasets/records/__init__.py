"""Turns records in the shapes of other tools into examples, and names what is not carried over."""
