"""Cloud Functions, the invokers of Cloud Run, and Cloud Scheduler: what a scheduled function of this project needs."""

from __future__ import annotations
