"""Training and serving of real models, each in a separate process.

The rest of the emulator uses only `launcher` and `protocol`, which never import torch. Everything else here runs in the
processes that the launcher starts.
"""
