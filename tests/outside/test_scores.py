"""Scores of text beside the referees of their field: seqeval for entities."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldfish.data.entity_f1 import entity_f1

seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
IOBES = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("PER", "LOC"))]
TAGS = ["O", *(f"{mark}-{kind}" for mark in "BI" for kind in ("PER", "LOC", "X-Y"))]


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    """True and predicted tags of a few sentences, legal or not."""
    known = draw(st.sampled_from([TAGS, IOBES, ["O", "B", "I"]]))
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    tags = [[draw(st.lists(st.sampled_from(known), min_size=n, max_size=n)) for n in lengths] for _ in range(2)]
    return tags[0], tags[1]


@given(sentences())
@settings(deadline=None)
def test_entity_f1_is_seqevals(tags: tuple[list[list[str]], list[list[str]]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where a class is never predicted
        theirs = seqeval.f1_score(*tags)
    assert entity_f1(*tags) == pytest.approx(float(theirs), abs=1e-12)
