"""Whom this project is compared with: the ways in which people run these networks, and read their gradients, today."""
