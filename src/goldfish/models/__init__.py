"""Models over the recurrent network."""
