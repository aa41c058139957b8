"""Probes: what is measured of a network beside its training; one probe a file, whose function is `measure`."""
