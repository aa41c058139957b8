"""Closed forms: what theory says of how fast an untrained network forgets."""
