"""The state of a pack in training, kept on disk."""
