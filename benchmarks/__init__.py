"""This project beside its peers in one interleaved run, as ratios with the targets beside them; results/ holds them."""
