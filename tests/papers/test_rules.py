"""The rules of `goldfish check` on made-up results that must pass, must fail, and cannot tell."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldfish.papers import rules
from goldfish.papers.rules import INCONCLUSIVE, NOT, REPRODUCED, Times


def by_hand(a: int, n: int, b: int, m: int) -> float:
    """Fisher's exact test as its definition has it: the tables that are no more likely than the one that was found."""

    def weight(k: int) -> int:
        return math.comb(n, k) * math.comb(m, a + b - k)

    tables = [weight(k) for k in range(max(0, a + b - m), min(n, a + b) + 1)]
    return sum(w for w in tables if w <= weight(a)) / sum(tables)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_fisher_by_hand(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    assert rules.fisher(a, n, b, m) == pytest.approx(by_hand(a, n, b, m), rel=1e-9)


@pytest.mark.parametrize(
    ("solved", "n", "published", "published_n", "verdict"),
    [
        (5, 5, 11, 11, REPRODUCED),
        (0, 5, 11, 11, NOT),
        (0, 5, 0, 11, REPRODUCED),
        (5, 5, 0, 11, NOT),
        (3, 5, 5, 11, INCONCLUSIVE),  # 5 runs could not have said no: p = .093 and .12 at the ends
        (1, 1, 11, 11, INCONCLUSIVE),
    ],
)
def test_success(solved: int, n: int, published: int, published_n: int, verdict: str) -> None:
    assert rules.success(solved, n, published, published_n).verdict == verdict


def test_smallest_number_of_runs() -> None:
    n = rules.smallest_n(11, 11)
    assert n is not None
    assert by_hand(0, n, 11, 11) < 0.05 <= by_hand(0, n - 1, 11, 11)
    assert f"needs {n} runs" in rules.success(1, 1, 11, 11).told
    assert rules.smallest_n(0, 1, most=10) is None


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.49, 0.50, 0.51], REPRODUCED),
        ([0.89, 0.90, 0.91], NOT),
        ([0.3, 0.5, 0.7], INCONCLUSIVE),  # the interval is ± .5
        ([0.5], INCONCLUSIVE),
        ([0.5, math.nan], NOT),  # one diverged
    ],
)
def test_value(values: list[float], verdict: str) -> None:
    assert rules.value(values, 0.5, 0.1).verdict == verdict


@pytest.mark.parametrize(
    ("values", "verdict"), [([0.7, 0.71, 0.72], REPRODUCED), ([0.3, 0.31, 0.32], NOT), ([0.4, 0.5, 0.6], INCONCLUSIVE)]
)
def test_bound(values: list[float], verdict: str) -> None:
    mirrored = {REPRODUCED: NOT, NOT: REPRODUCED}.get(verdict, verdict)
    assert rules.bound(values, 0.5, above=True).verdict == verdict
    assert rules.bound(values, 0.5, above=False).verdict == mirrored


def test_order() -> None:
    high, low = [0.9, 0.91, 0.92], [0.5, 0.52, 0.54]
    assert rules.order(high, low, above=True).verdict == REPRODUCED
    assert rules.order(low, high, above=True).verdict == NOT
    assert rules.order(low, high, above=False).verdict == REPRODUCED
    assert rules.order(low, [0.5, 0.53, 0.55], above=True).verdict == INCONCLUSIVE
    assert rules.order(high, [0.5], above=True).verdict == INCONCLUSIVE
    assert rules.order_of_success(5, 5, 0, 5).verdict == REPRODUCED
    assert rules.order_of_success(0, 5, 5, 5).verdict == NOT
    assert rules.order_of_success(3, 3, 0, 3).verdict == INCONCLUSIVE  # p = .1


def test_ratio() -> None:
    fast, slow = Times([100, 110, 120], [True] * 3), Times([800, 850, 900], [True] * 3)
    assert rules.ratio(fast, slow, 3.5).verdict == REPRODUCED
    assert rules.ratio(slow, fast, 1).verdict == NOT
    assert rules.ratio(fast, slow, 7.5).verdict == INCONCLUSIVE
    assert rules.ratio(fast, slow, 20).verdict == NOT
    unsolved = Times([800, 850, 900], [False] * 3)
    assert rules.ratio(fast, unsolved, 3.5).verdict == REPRODUCED  # at least so many times as long
    assert rules.ratio(fast, unsolved, 20).verdict == INCONCLUSIVE  # perhaps it would take so long
    assert rules.ratio(Times([100, 110, 900], [True, True, False]), slow, 1).verdict == INCONCLUSIVE
    assert rules.ratio(fast, unsolved, 3.5).told.startswith("≥ ")


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ([REPRODUCED, REPRODUCED, ""], REPRODUCED),
        ([NOT, NOT, INCONCLUSIVE], NOT),
        ([REPRODUCED, NOT], "partly"),
        ([REPRODUCED, INCONCLUSIVE, INCONCLUSIVE], INCONCLUSIVE),
        ([REPRODUCED, INCONCLUSIVE], REPRODUCED),
        (["not run at this scale", ""], "not run at this scale"),
    ],
)
def test_overall(verdicts: list[str], found: str) -> None:
    assert rules.overall(verdicts) == found
