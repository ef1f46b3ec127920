"""What `runner infra` does, in a process of its own: `python -m infra.automation VERB`.

The runner imports no pulumi. It starts this, reads one JSON document from standard output, and shows it.
"""

from __future__ import annotations
