"""Entity F1 against the example that seqeval documents, and against a definition written another way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldfish.data import columns
from goldfish.data.entity_f1 import entities, entity_f1

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def test_the_documented_example_of_seqeval() -> None:
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predicted = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert entity_f1(true, predicted) == 0.5


def test_by_hand() -> None:
    assert entity_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]]) == 0.5
    assert entity_f1([["O", "O"]], [["O", "B-PER"]]) == 0.0
    assert entity_f1([["B-PER"], ["B-PER"]], [["B-PER"], ["O"]]) == pytest.approx(2 / 3)


def test_an_entity_may_begin_with_i() -> None:
    assert entities(0, ["I-PER", "I-PER", "I-LOC", "B-LOC", "I-LOC"]) == [
        (0, "PER", 0, 1),
        (0, "LOC", 2, 2),
        (0, "LOC", 3, 4),
    ]


SCHEMES = {  # how the words of an entity of one, two and three words are tagged
    "IOB": (["B"], ["B", "I"], ["B", "I", "I"]),
    "IOBES": (["S"], ["B", "E"], ["B", "I", "E"]),
    "BILOU": (["U"], ["B", "L"], ["B", "I", "L"]),
}
ENTITIES = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC"]), st.integers(1, 3), st.integers(0, 2)), max_size=5)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(planted=ENTITIES)
def test_every_scheme_gives_back_the_entities_that_were_written_in_it(
    scheme: str, planted: list[tuple[str, int, int]]
) -> None:
    tags: list[str] = []
    expected = []
    for kind, length, gap in planted:
        expected.append((0, kind, len(tags), len(tags) + length - 1))
        tags += [f"{mark}-{kind}" if kind else mark for mark in SCHEMES[scheme][length - 1]] + ["O"] * gap
    assert entities(0, tags) == expected
    assert columns.scheme([*tags, "O", *SCHEMES[scheme][2], *SCHEMES[scheme][0]]) == scheme


def test_tags_without_a_type() -> None:
    assert entity_f1([["B", "I", "O", "B"]], [["B", "I", "O", "O"]]) == pytest.approx(2 / 3)
    assert entity_f1([["B", "I", "O", "B"]], [["B", "I", "O", "B"]]) == 1.0


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_are_the_stretches_between_beginnings(tags: list[str]) -> None:
    def begins(place: int) -> bool:
        """conlleval: B- always; I- after O or another type."""
        tag, before = tags[place], tags[place - 1] if place else "O"
        return tag[0] == "B" or (tag[0] == "I" and (before == "O" or before[2:] != tag[2:]))

    starts = [place for place in range(len(tags)) if begins(place)]
    expected = []
    for start in starts:
        end = start
        while end + 1 < len(tags) and tags[end + 1][0] == "I" and not begins(end + 1):
            end += 1
        expected.append((3, tags[start][2:], start, end))
    assert entities(3, tags) == expected


@given(st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=8), min_size=1, max_size=4))
def test_a_perfect_answer(tags: list[list[str]]) -> None:
    some = any(tag != "O" for row in tags for tag in row)
    assert entity_f1(tags, tags) == (1.0 if some else 0.0)
