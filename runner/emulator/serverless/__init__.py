"""Cloud Functions, the invokers of Cloud Run, and Cloud Scheduler, as far as the scheduled function needs them."""

from __future__ import annotations
