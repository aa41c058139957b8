"""Optimisers, one file each: torch's own, with one parameter group for each replica."""
