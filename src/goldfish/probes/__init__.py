"""Probes: measurements of a network beside its training, one in each file, whose function is `measure`."""
