"""Claims: one owner for each run, as long as it lives."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from goldfish.sweep.claims import Claim, Claims

KEY = ("study", "ab" * 32)


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    return Claims(tmp_path / "claims")


def wanted(claims: Claims, *seeds: int) -> list[Claim]:
    return [claims.of(("study", f"{seed:064x}"), f"seed={seed}", "study/cpu") for seed in seeds]


def labels(items: list[Claim]) -> list[str]:
    return [item.label for item in items]


def test_a_claim_says_whose_it_is(claims: Claims) -> None:
    (item,) = wanted(claims, 3)
    assert (item.pid, item.host, item.key) == (os.getpid(), platform.node(), ("study", f"{3:064x}"))
    assert (item.label, item.sweep) == ("seed=3", "study/cpu")
    assert claims.take([item]).mine == [item]
    assert claims.all() == [item]
    assert claims.claimed(item.key) == item
    assert claims.take([item]) == ([item], [], [])  # its own already
    claims.release([item.key, KEY])
    assert (claims.all(), claims.claimed(item.key)) == ([], None)


def test_the_second_one_gets_nothing_until_the_first_gives_up(claims: Claims) -> None:
    other = Claims(claims.folder)
    first = other.take(wanted(other, 0, 1)).mine
    taken = claims.take(wanted(claims, 1, 2))
    assert (labels(taken.mine), taken.elsewhere, taken.dead) == (["seed=2"], [first[1]], [])
    claims.release([item.key for item in first])  # another one's: they stay
    assert labels(claims.all()) == ["seed=0", "seed=1", "seed=2"]
    other.close()
    assert labels(claims.all()) == ["seed=2"]
    taken = claims.take(wanted(claims, 0, 1))
    assert (labels(taken.mine), taken.dead) == (["seed=0", "seed=1"], [])
    claims.close()
    assert [path.name for path in claims.folder.iterdir()] == ["lock"]


TAKER = """
import sys, time
from pathlib import Path
from goldfish.sweep.claims import Claims
claims = Claims(Path(sys.argv[1]))
claims.take([claims.of(("study", f"{seed:064x}"), f"seed={seed}", "s") for seed in (0, 1)])
print("taken", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_is_taken_over_before_it_is_waited_for(claims: Claims) -> None:
    """A zombie trains nothing."""
    command = [sys.executable, "-c", TAKER, str(claims.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"taken\n"
        first = claims.all()
        assert [item.pid for item in first] == [other.pid] * 2
        assert claims.take(wanted(claims, 1)).elsewhere == [first[1]]
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert claims.claimed(first[0].key) is None
        taken = claims.take(wanted(claims, 0, 1))
    assert (labels(taken.mine), taken.dead) == (["seed=0", "seed=1"], first)
    Claims(claims.folder).take([])  # whoever comes next sweeps the dead one's file out
    assert claims.owner in (left := [path.name for path in claims.folder.glob("*.owner")])
    assert first[0].owner not in left


def test_of_another_host_nothing_is_known(claims: Claims) -> None:
    (item,) = wanted(claims, 0)
    Claims(claims.folder).take([item._replace(host="another", owner="gone")])
    assert claims.take([item]).elsewhere == claims.all()
    assert claims.alive(claims.all()[0])
    claims.drop(claims.all())
    assert claims.take([item]).mine == [item]


def test_what_a_lost_machine_leaves_is_no_claim(claims: Claims) -> None:
    (item,) = wanted(claims, 0)
    claims.take([item])
    (file,) = claims.folder.glob("*.claim")
    for damage in (b"", b"{", b"[]", json.dumps({"pid": 1}).encode()):
        file.write_bytes(damage)
        assert claims.all() == []
        assert claims.take([item]).mine == [item]


def test_a_claim_that_was_taken_over_is_not_dropped(claims: Claims) -> None:
    (item,) = wanted(claims, 0)
    Claims(claims.folder).take([item._replace(owner="gone")])
    (dead,) = claims.all()
    claims.take([item])
    claims.drop([dead])
    assert claims.all() == [item]


def _count(folder: str, gate: object, found: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    claims = Claims(Path(folder))
    taken = [len(claims.take(wanted(claims, seed)).mine) for seed in range(50)]
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
