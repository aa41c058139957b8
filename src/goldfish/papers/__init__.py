"""Experiments and papers: what is trained for them, by which rules it is judged, and what is told of it."""
