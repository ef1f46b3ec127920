"""IAM: policies, service accounts, service agents, keys, tokens and workload identity pools."""
