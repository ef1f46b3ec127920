"""Google APIs, one module each. The only place that imports Google's SDKs."""
