"""Figures and tables: functions of a tidy table of runs, and of nothing else."""
