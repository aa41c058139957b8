"""Colours per cell, styles per initialisation."""

from __future__ import annotations

from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles


def test_a_cell_keeps_its_colour_whatever_stands_beside_it():
    alone = cell_colours(["lstm"])["lstm"]
    beside = cell_colours(["mgu", "gru", "lstm", "rnn"])
    assert beside["lstm"] == alone
    assert len(set(beside.values())) == 4


def test_orders_put_the_known_and_the_baseline_first():
    assert cell_order(["mgu", "gru", "gru", "rnn"]) == ["rnn", "gru", "mgu"]
    assert init_order(["xavier", "chrono", "pytorch"]) == ["pytorch", "chrono", "xavier"]


def test_a_dozen_initialisations_are_told_apart():
    styles = init_styles(f"init{number}" for number in range(12))
    assert len({(style.dashes, style.marker) for style in styles.values()}) == 12
    assert init_styles(["pytorch"])["pytorch"].linestyle == "-"
