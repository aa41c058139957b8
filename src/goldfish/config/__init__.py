"""The configuration of a run: the registry, the signatures it is read from, and their bounds."""
