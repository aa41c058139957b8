"""Real data: where they lie, how tables are read and checked, words and their numbers."""
