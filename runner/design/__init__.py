"""The design of pages, for the console and for files: one style sheet, and its elements."""
