"""The infrastructure of a tuning project, as a Pulumi program."""
