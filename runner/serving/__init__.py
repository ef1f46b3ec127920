"""Deployed models: plan, deploy, list, ask, take down."""
