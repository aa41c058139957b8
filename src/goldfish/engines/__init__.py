"""Engines run a cell over time: states forward, adjoints and their norms backward."""
