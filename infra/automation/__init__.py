"""Implements `runner infra`, in a separate process: `python -m infra.automation VERB`.

The runner does not import pulumi. It starts this process, reads one JSON document from standard output, and shows it.
"""

from __future__ import annotations
