"""Sweeps: fingerprints, packs, worker processes, and the record of every run."""
