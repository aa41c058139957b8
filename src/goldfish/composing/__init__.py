"""Composing configurations with Hydra: the only part that knows it."""
