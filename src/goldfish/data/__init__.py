"""Real data: where it lies, how its tables are read and checked, and how text becomes numbers."""
