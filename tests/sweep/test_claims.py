"""Claims: one owner for each run, as long as it lives."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from goldfish.sweep import claims as module
from goldfish.sweep.claims import Claim, Claims, claim

KEY = ("study", "ab" * 32)


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    return Claims(tmp_path / "claims")


def wanted(*seeds: int) -> list[Claim]:
    return [claim(("study", f"{seed:064x}"), f"seed={seed}", "study/cpu") for seed in seeds]


def of(process: subprocess.Popen[bytes], item: Claim) -> Claim:
    """The claim as another process would have made it."""
    return item._replace(pid=process.pid, process_start=module._started(process.pid) or "")


def test_a_claim_says_whose_it_is(claims: Claims) -> None:
    (item,) = wanted(3)
    assert (item.pid, item.label, item.sweep, item.key) == (os.getpid(), "seed=3", "study/cpu", ("study", f"{3:064x}"))
    assert item.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert claims.take([item]).mine == [item]
    assert claims.all() == [item]
    assert claims.owner(item.key) == item
    assert claims.alive(item)
    claims.release([item.key, KEY])
    assert (claims.all(), claims.owner(item.key)) == ([], None)


def test_the_second_one_gets_nothing_until_the_first_gives_up_or_dies(claims: Claims) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        first = [of(other, item) for item in wanted(0, 1)]
        assert claims.take(first).mine == first
        taken = claims.take(wanted(1, 2))
        assert [item.label for item in taken.mine] == ["seed=2"]
        assert (taken.elsewhere, taken.dead) == ([first[1]], [])
        claims.release([item.key for item in first])  # another one's: they stay
        assert [item.label for item in claims.all()] == ["seed=0", "seed=1", "seed=2"]
    finally:
        other.kill()
    assert claims.owner(first[1].key) is None or other.wait()  # a zombie trains nothing
    taken = claims.take(wanted(0, 1))
    assert [item.label for item in taken.mine] == ["seed=0", "seed=1"]
    assert taken.dead == first
    other.wait()


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ({}, True),
        ({"process_start": "1"}, False),  # the number went to another process
        ({"boot_id": "before"}, False),
        ({"host": "another"}, True),  # nothing is known of it
        ({"host": "another", "pid": 1, "boot_id": "before"}, True),
    ],
)
def test_who_is_alive(claims: Claims, change: dict[str, Any], alive: bool) -> None:
    (item,) = wanted(0)
    assert claims.alive(item._replace(**change)) is alive


def test_a_process_of_this_number_that_never_was(claims: Claims) -> None:
    assert not claims.alive(wanted(0)[0]._replace(pid=2**22 + 1))


def test_what_a_lost_machine_leaves_is_no_claim(claims: Claims) -> None:
    (item,) = wanted(0)
    claims.take([item])
    (file,) = claims.folder.glob("*.claim")
    for damage in (b"", b"{", b"[]", json.dumps({"pid": 1}).encode()):
        file.write_bytes(damage)
        assert claims.all() == []
        assert claims.take([item]).mine == [item]


def test_a_claim_that_was_taken_over_is_not_dropped(claims: Claims) -> None:
    (item,) = wanted(0)
    claims.take([item._replace(boot_id="before")])
    (dead,) = claims.all()
    claims.take([item])
    claims.drop([dead])
    assert claims.all() == [item]


def _count(folder: str, gate: object, found: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    taken = [len(Claims(Path(folder)).take(wanted(seed)).mine) for seed in range(50)]
    found.put(sum(taken))  # type: ignore[attr-defined]
    gate.wait()  # type: ignore[attr-defined]


def test_fifty_claims_have_one_owner_each_among_four_processes(claims: Claims) -> None:
    context = multiprocessing.get_context("fork")
    gate, found = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_count, args=(str(claims.folder), gate, found)) for _ in range(4)]
    for process in processes:
        process.start()
    counts = [found.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(counts) == 50
