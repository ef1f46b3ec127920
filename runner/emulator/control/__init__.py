"""The smaller control-plane services: budgets, quotas, keys, service agents, and a small part of Compute."""
