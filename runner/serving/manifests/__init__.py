"""Deployments that manifests describe: the gate of a model, and its deployment after its job."""
