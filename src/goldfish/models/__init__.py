"""Models: recurrent networks, and what they are compared with."""
