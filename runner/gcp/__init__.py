"""Clients of Google's REST APIs, one module for each. Only this package imports google-auth."""
