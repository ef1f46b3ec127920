"""The console: pages in a browser for what the command line does, through the same use cases and their gates.

`application.build` makes the ASGI application of a connection, `server.serve` runs it on loopback. It imports neither
click nor Google's SDKs; `runner.cli.console` is the command.
"""
