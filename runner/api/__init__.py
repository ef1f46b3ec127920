"""The names of `import runner`: functions and objects that do the same as the command line. See docs/python.md."""
