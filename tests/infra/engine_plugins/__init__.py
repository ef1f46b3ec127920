"""Plugins for an engine that stands alone: enough of a Python host, and a provider made of `infra.embedded`.

Pulumi's own come with a full installation, and are used where they are. These let a bare engine run the real program on
an emulator: the engine's plans, states, hooks, locks and protection are what is tested, not the provider.
"""
