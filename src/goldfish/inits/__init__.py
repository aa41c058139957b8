"""Initialisations of the recurrent weights, one file each, with the paper that proposed it."""
