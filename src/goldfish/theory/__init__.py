"""Closed forms for how fast an untrained network forgets."""
