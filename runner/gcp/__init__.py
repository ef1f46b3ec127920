"""Google's APIs, one module each, by plain REST. The only place that imports google-auth."""
