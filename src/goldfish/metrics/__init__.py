"""Metrics of the field that no library in use here has."""
