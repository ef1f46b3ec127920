"""What `import runner` gives: functions and objects for what the command line does. See docs/python.md."""
