"""Experiments and papers: the runs that are trained for them, the rules that judge these, and the reports."""
