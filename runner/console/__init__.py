"""The console: pages in a browser for the use cases of the command line, with the same checks.

`application.build` creates the ASGI application for a connection, and `server.serve` runs it on loopback. It imports
neither click nor Google's SDKs; `runner.cli.console` is the command.
"""
