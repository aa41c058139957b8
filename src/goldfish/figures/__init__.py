"""Figures and tables, which are functions of a tidy table of runs and of nothing else."""
