"""Training and serving of real models, each in a process of its own.

`launcher` and `protocol` are what the rest of the emulator sees; they never import torch. Everything else here runs
inside the processes that the launcher starts.
"""
