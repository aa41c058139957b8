"""Composing configurations with Hydra, and refusing those that no run can have."""
