"""Probes: pure functions of a model and a batch."""
