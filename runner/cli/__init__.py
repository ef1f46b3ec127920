"""The command line `runner`: reads arguments, calls one use case of the library, prints.

`main` is the only entry point and the only place that turns errors into exit codes. Command modules are imported when
their command is invoked, and they import the library inside the command, so that `runner --help` stays quick.
"""
