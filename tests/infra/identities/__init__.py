"""Who can become whom: what tokens say in each event, what pipelines ask for, and what the bindings make of it."""
