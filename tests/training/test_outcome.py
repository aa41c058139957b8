"""Outcomes as bytes: what goes in comes out, and damage is noticed."""

from __future__ import annotations

import io
import math
import random
import subprocess
import sys

import pytest
import torch

from goldfish.config.config import resolve
from goldfish.training.outcome import Outcome, Point, dumps, loads


def make_outcome() -> Outcome:
    """One with every kind of number in it."""
    curves = [Point("val/loss", "training", 100.0, math.nan), Point("x", "after", 1.0, -math.inf)]
    curves += [Point("y", "half", float(k), 0.1 * k) for k in range(2000)]
    return Outcome(
        config=resolve({"seed": 3, "tracking": {"experiment_name": "ü"}}),
        verdict="diverged",
        reason="loss became nan",
        metrics={"a": math.inf, "b": 1e-310, "c": -0.0, "d": 0.1},
        curves=curves,
        state_dict={"w": torch.arange(6.0).view(2, 3)[:, 1:]},
        engine="cpu",
        dataset={"name": "recall"},
    )


def test_everything_comes_back() -> None:
    outcome = make_outcome()
    found = loads(dumps(outcome))
    weights = torch.load(io.BytesIO(found.state_dict.pop("weights.pt")), weights_only=True)
    assert torch.equal(weights["w"], outcome.state_dict["w"])
    expected = outcome.__dict__ | {"state_dict": {}}
    assert repr(found.__dict__) == repr(expected)  # repr, for NaN is not equal to itself


def test_saved_weights_are_taken_as_they_are() -> None:
    outcome = make_outcome()
    outcome.state_dict = {"weights.pt": b"PK\x03\x04 \n\n"}
    assert loads(dumps(outcome)).state_dict == outcome.state_dict
    outcome.state_dict = {}
    assert loads(dumps(outcome)).state_dict == {}


def test_a_view_is_saved_without_the_pack_behind_it() -> None:
    outcome = make_outcome()
    outcome.state_dict = {"w": torch.zeros(1_000_000)[:3]}
    outcome.curves = []
    assert len(dumps(outcome)) < 10_000


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_noticed(seed: int) -> None:
    data = bytearray(dumps(make_outcome()))
    place = random.Random(seed).randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    with pytest.raises(ValueError, match=r"no outcome, or a damaged one|a damaged outcome"):
        loads(bytes(data))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_missing_end_is_noticed(share: float) -> None:
    data = dumps(make_outcome())
    with pytest.raises(ValueError, match=r"no outcome, or a damaged one|a damaged outcome"):
        loads(data[: int(share * len(data))])


def test_reading_needs_no_torch() -> None:
    data = dumps(make_outcome())
    script = "import sys; from goldfish.training.outcome import loads; loads(sys.stdin.buffer.read())\n"
    script += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert done.stdout.strip() == b"False"
