"""Outcomes that wait on the disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from goldfish.config.config import resolve
from goldfish.tracking import spool


def of_the_first_version(damage: bytes = b"") -> bytes:
    """A file as it was written before containers: the outcome had a sha256 of its own, for all that follows it."""
    about = {"experiment_name": "study", "fingerprint": "f" * 64, "sweep": "s", "source_hash": "a", "provenance": {}}
    line = json.dumps(about).encode()
    plain = {"config": {"seed": 3}, "verdict": "solved", "metrics": {"a": 0.5}, "curves": [["x", "after", 1.0, 2.0]]}
    rest = json.dumps(plain).encode() + b"\nPK\x03\x04\n"
    head = b"goldfish waiting 1 %s\n%s\n" % (hashlib.sha256(line).hexdigest().encode(), line)
    return head + b"goldfish outcome 1 %s\n%s" % (hashlib.sha256(rest).hexdigest().encode(), rest + damage)


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "study.outcome"
    path.parent.mkdir()
    path.write_bytes(of_the_first_version())
    assert list(spool.keys(tmp_path)) == [("study", "f" * 64)]
    about, outcome = spool.read(path)
    assert (about.sweep, about.since) == ("s", 0.0)
    assert (outcome.config, outcome.verdict, outcome.metrics) == (resolve({"seed": 3}), "solved", {"a": 0.5})
    assert outcome.curves == [("x", "after", 1.0, 2.0)]
    assert outcome.state_dict == {"weights.pt": b"PK\x03\x04\n"}
    path.write_bytes(of_the_first_version(b"?"))
    with pytest.raises(ValueError, match=f"{path}: no outcome, or a damaged one"):
        spool.read(path)
