"""Real data: its files, the reading and checking of their tables, and text as numbers."""
