"""run_sweep: each run trained and recorded once, whatever happens to runs, workers and the store."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.sweep import stand_ins
from tests.sweep.stand_ins import DIVERGES, EXITS, HANGS, IS_KILLED, LEAVES, RAISES, FakeStore, alive, config, trained

from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.sweep import machine
from goldfish.sweep.identity import fingerprint, source_hash
from goldfish.sweep.pool import WorkerError
from goldfish.sweep.progress import Report
from goldfish.sweep.run import run_sweep
from goldfish.tracking import views

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import the stand-in of a trainer as a module of its own."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The experiments whose views were prepared; the stand-in of a store has no UI."""
    names: list[str] = []
    monkeypatch.setattr(views, "prepare_views", lambda store, name: names.append(name))
    return names


def sweep(configs: list[Config], store: FakeStore, trainer: str = "train", **options: Any) -> Report:
    options = {"workers": 2, "stream": io.StringIO(), **options}
    return run_sweep(configs, store=store, trainer=f"stand_ins:{trainer}", **options)


def test_each_run_is_trained_and_recorded_once_and_a_repeat_trains_none(log: Path, prepared: list[str]) -> None:
    configs = [config(seed, log) for seed in (0, 1, 2, 3, DIVERGES)]
    store = FakeStore()
    report = sweep(configs, store, sweep_name="study")
    assert sorted(seed for seed, *_ in trained(log)) == store.seeds() == sorted([0, 1, 2, 3, DIVERGES])
    assert (report.total, report.done) == (5, 5)
    assert report.verdicts == {"solved": 2, "unsolved": 2, "diverged": 1}
    assert (report.failed, report.skipped, report.exit_code) == (0, 0, 0)
    assert report.fingerprints == tuple(fingerprint(item) for item in configs)
    for row in store.records:
        item = row.outcome.config
        assert (row.fingerprint, row.source_hash) == (fingerprint(item), source_hash(item))
        assert (row.sweep, row.experiment_name) == ("study", str(log))
        assert {"versions", "machine"} <= row.provenance.keys()
    assert (store.prepared, prepared) == (1, [str(log)])

    again = sweep(configs, store)
    assert (again.done, again.skipped, len(store.records), len(trained(log))) == (0, 5, 5, 5)
    assert again.fingerprints == report.fingerprints
    assert store.prepared == 1
    more = sweep([*configs, config(7, log)], store)
    assert (more.done, more.skipped) == (1, 5)


def test_packs_are_trained_side_by_side(log: Path) -> None:
    sweep([config(seed, log) for seed in range(6)], FakeStore(), pack_size=4)
    lines = trained(log)
    assert sorted(packed for _, packed, _ in lines) == [3] * 6
    assert os.getpid() not in {pid for *_, pid in lines}
    one = log.with_name("one")
    sweep([config(seed, one) for seed in range(6)], FakeStore(), pack_size=2, workers=1)
    assert len({pid for *_, pid in trained(one)}) == 1


def test_duplicates_are_trained_once(log: Path) -> None:
    """Where a run is trained is no part of it; the MLflow experiment that holds it is a sweep's choice."""
    here = [config(0, log), config(0, log, trainer={"max_steps": 20, "accelerator": "cpu"}), config(1, log)]
    there = config(0, log.with_name("other"))
    store = FakeStore()
    report = sweep([*here, there], store)
    assert (report.total, report.done, report.duplicates) == (4, 3, 1)
    assert report.fingerprints[0] == report.fingerprints[1] == report.fingerprints[3]
    assert sorted((row.experiment_name, row.outcome.config["seed"]) for row in store.records) == sorted(
        [(str(log), 0), (str(log), 1), (str(log.with_name("other")), 0)]
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (RAISES, r"ValueError: a bad run \(stand_ins.py:\d+\)"),
        (LEAVES, r"SystemExit: 3 \(stand_ins.py:\d+\)"),
        (EXITS, r"worker died: exit code 0"),
        (IS_KILLED, r"worker died: exit code -9 \(Killed\)"),
    ],
)
def test_one_bad_run_of_six_fails_alone(log: Path, bad: int, reason: str) -> None:
    configs = [config(seed, log) for seed in (0, 1, bad, 2, 3, 4)]
    store = FakeStore()
    report = sweep(configs, store, pack_size=3)
    assert (report.done, report.failed, report.exit_code) == (5, 1, 1)
    assert store.seeds() == sorted([0, 1, 2, 3, 4, bad])
    (row,) = [row for row in store.records if row.outcome.verdict == "failed"]
    assert row.outcome.config["seed"] == bad
    assert re.fullmatch(reason, row.outcome.reason)
    assert row.outcome.started > 0
    ((name, told),) = report.failures
    assert told == row.outcome.reason
    assert name == f"cell=rnn init=pytorch task=recall task.length=10 seed={bad}"
    # the pack of the bad run was tried whole (in halves as well, where memory may have been short), then run by run
    assert len(trained(log)) == 3 + 3 + (5 if bad == IS_KILLED else 3)
    assert sweep([item for item in configs if item["seed"] != bad], store).skipped == 5
    assert sweep(configs, store).failed == 1  # a failed run is tried again


def test_what_a_worker_refuses_is_bad_input_and_no_failed_run(log: Path) -> None:
    """In one line, after what is trained already has been recorded."""
    store = FakeStore()
    with pytest.raises(ConfigError, match=r"^task\.data: row 3 is bad$"):
        sweep([config(seed, log) for seed in (0, stand_ins.REFUSES)], store, workers=1, pack_size=1)
    assert store.seeds() == [0]


def test_bad_data_are_refused_before_anything_is_trained(log: Path, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        table = pa.table({"text": ["a", "b", ""], "label": [0, 1, 1]})
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    store, task = FakeStore(), {"name": "sentiment", "data": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"^task\.data: .*test\.parquet, row 2, column 'text': an empty text"):
        sweep([config(0, log), config(1, log, task=task)], store)
    assert (store.prepared, store.records, trained(log)) == (0, [], [])


def test_a_run_on_other_data_than_its_fingerprint_stands_for_is_no_result(log: Path) -> None:
    store = FakeStore()
    report = sweep([config(0, log, task={"name": "digits", "length": 64})], store, "on_other_data")
    assert (report.failed, report.done) == (1, 0)
    assert [row.outcome.metrics for row in store.records] == [{}]
    assert report.failures[0][1].startswith("its data changed while the sweep ran")


def test_a_pack_that_is_killed_for_memory_is_trained_again_in_halves(log: Path) -> None:
    store, stream = FakeStore(), io.StringIO()
    report = sweep(
        [config(seed, log) for seed in range(4)], store, "train_in_little_memory", pack_size=4, workers=1, stream=stream
    )
    assert (report.done, report.failed, report.exit_code) == (4, 0, 0)
    assert store.seeds() == [0, 1, 2, 3]
    assert [packed for _, packed, _ in trained(log)] == [4] * 4 + [2] * 4
    assert "a worker was killed in training 4 runs together" in stream.getvalue()
    assert "they are, 2 and 2 together, trained once more" in stream.getvalue()


def test_a_run_that_memory_was_short_for_is_trained_once_more(log: Path) -> None:
    store, stream = FakeStore(), io.StringIO()
    report = sweep([config(0, log)], store, "train_where_memory_was_short", workers=1, stream=stream)
    assert (report.done, report.failed) == (1, 0)
    assert [seed for seed, *_ in trained(log)] == [0, 0]
    assert "memory ran out in training a run" in stream.getvalue()


def test_a_store_that_cannot_be_asked_stops_no_training(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody else has recorded a run meanwhile is asked again when it is recorded."""
    store, configs = FakeStore(), [config(seed, log) for seed in range(4)]
    store.there = True
    asked = FakeStore.finished

    def finished(self: FakeStore, *given: Any) -> dict[str, Any]:
        if trained(log):
            raise OSError("connection refused")
        return asked(self, *given)

    monkeypatch.setattr(FakeStore, "finished", finished)
    assert sweep(configs, store, pack_size=1, workers=1).done == 4
    assert store.seeds() == [0, 1, 2, 3]


def test_what_waits_is_recorded_by_the_same_command(log: Path) -> None:
    configs = [config(seed, log) for seed in range(3)]
    store = FakeStore(faults={1: -1})
    report = sweep(configs, store, pack_size=3, workers=1)
    assert (report.done, len(report.unrecorded), report.exit_code) == (3, 1, 1)
    stream = io.StringIO()
    again = sweep(configs, store, stream=stream)
    assert (again.done, again.skipped, again.waiting, again.exit_code) == (0, 2, 1, 1)
    assert "2 recorded already, 1 trained before and still NOT recorded" in again.summary()
    assert "1 outcome waits in" in stream.getvalue()
    assert "to be recorded: ValueError: no run that can be recorded" in stream.getvalue()
    store.faults = {}
    last = sweep(configs, store)
    assert (last.done, last.skipped, last.waiting, last.exit_code) == (0, 3, 0, 0)
    assert store.seeds() == [0, 1, 2]
    assert len(trained(log)) == 3


def test_a_sweep_of_bad_runs_ends(log: Path) -> None:
    report = sweep([config(EXITS, log, cell=cell) for cell in ("rnn", "lstm", "gru")], FakeStore())
    assert (report.failed, report.done) == (3, 0)


def test_lost_outcomes_are_a_failure(log: Path) -> None:
    report = sweep([config(0, log), config(1, log)], FakeStore(), "too_few", workers=1)
    assert report.failed == 2
    assert "1 runs came back as 0 outcomes" in report.failures[0][1]


def test_stale_runs_are_counted_and_repeated_when_asked_for(log: Path) -> None:
    configs = [config(seed, log) for seed in range(4)]
    store = FakeStore()
    sweep(configs, store)
    for row in store.records:
        if row.outcome.config["seed"] < 2:
            row.source_hash = "made by older code"
    kept = sweep(configs, store)
    assert (kept.done, kept.skipped, kept.stale) == (0, 4, 2)
    assert "2 made by older code" in kept.summary()
    again = sweep(configs, store, rerun="stale")
    assert (again.done, again.skipped, again.stale) == (2, 2, 0)
    assert store.seeds() == [0, 0, 1, 1, 2, 3]
    every = sweep(configs, store, rerun="all")
    assert (every.done, every.skipped, every.stale) == (4, 0, 0)


def test_a_gpu_that_is_not_there_starts_nothing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu"):
        sweep([config(0, log), config(1, log, trainer={"accelerator": "gpu"})], store)
    assert (trained(log), store.prepared) == ([], 0)


def test_a_record_that_fails_is_tried_again_and_counted_when_it_fails_for_good(log: Path) -> None:
    store = FakeStore(faults={0: 2, 1: -1})
    report = sweep([config(seed, log) for seed in range(4)], store)
    assert store.seeds() == [0, 2, 3]
    ((name, reason),) = report.unrecorded
    assert name.endswith("seed=1")
    assert reason.startswith("ValueError: no run that can be recorded")
    assert report.exit_code == 1
    assert "1 NOT recorded" in report.summary()


def test_a_store_that_cannot_be_prepared_ends_the_sweep(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FakeStore) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(FakeStore, "prepare", full)
    with pytest.raises(OSError, match="disk full"):
        sweep([config(HANGS, log)], FakeStore())
    assert not alive(pid for *_, pid in trained(log))


def test_a_trainer_that_cannot_be_imported_ends_the_sweep(log: Path) -> None:
    with pytest.raises(WorkerError, match=r"stand_ins:nothing cannot be imported: AttributeError"):
        sweep([config(0, log)], FakeStore(), "nothing")


def test_workers_that_die_while_starting_end_the_sweep(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(log.parent)
    (log.parent / "dies_at_once.py").write_text("import os\nos._exit(5)\n")
    with pytest.raises(WorkerError, match="worker died: exit code 5, 3 times"):
        run_sweep([config(0, log)], store=FakeStore(), trainer="dies_at_once:train", stream=io.StringIO())


def test_weights_come_as_the_bytes_of_a_file_of_this_run_alone(log: Path) -> None:
    import torch

    store = FakeStore()
    sweep([config(seed, log) for seed in (0, 1, 2)], store, "train_with_weights", workers=1)
    assert len(store.records) == 3
    for replica, row in enumerate(store.records):
        (content,) = row.outcome.state_dict.values()
        assert list(row.outcome.state_dict) == ["weights.pt"]
        assert isinstance(content, bytes)
        assert len(content) < 5000  # five floats, not the pack's ten thousand
        loaded = torch.load(io.BytesIO(content), weights_only=True)
        assert torch.equal(loaded["w"], torch.arange(5.0) + 10_000 * replica)
        assert row.outcome.metrics == {"test/loss": 10_000.0 * replica + 1}
        assert type(row.outcome.metrics["test/loss"]) is float


def test_the_environment_and_main_module_are_left_alone(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    before, main = dict(os.environ), sys.modules["__main__"]
    sweep([config(0, log)], FakeStore())
    assert dict(os.environ) == before
    assert sys.modules["__main__"] is main
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_spawned_workers_do_the_same(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are for a GPU."""
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    store = FakeStore()
    report = sweep([config(seed, log) for seed in (0, EXITS, 1)], store, workers=None)
    assert (report.done, report.failed) == (2, 1)
    assert [packed for _, packed, _ in trained(log)] == [3, 3, 3, 1, 1, 1]  # one worker, one pack


def test_every_gpu_has_a_worker_that_sees_no_other(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails there, or ends its worker, leaves the next one a fresh process on the same GPU."""
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,3")
    configs = [config(seed, log) for seed in (RAISES, 0, 1, 2, EXITS, 3)]
    report = sweep(configs, FakeStore(), "train_on_gpu", workers=None, pack_size=1)
    assert (report.done, report.failed) == (4, 2)
    seen = log.with_suffix(".gpus").read_text().split()
    assert set(seen) == {"GPU-a", "3"}
    assert len({pid for seed, _, pid in trained(log) if seed >= RAISES}) == 2
    after_failure = trained(log).index(next(row for row in trained(log) if row[0] == RAISES)) + 1
    spoilt = next(pid for seed, _, pid in trained(log) if seed == RAISES)
    assert spoilt not in [pid for _, _, pid in trained(log)[after_failure:]]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a,3"
