"""Composing configurations with Hydra, and what a configuration may not do."""
