"""Deployed models: plan, deploy, list, ask, undeploy."""
