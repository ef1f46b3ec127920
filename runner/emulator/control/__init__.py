"""The smaller control-plane services: budgets, quotas, keys, service agents, and the little of Compute that is read."""
