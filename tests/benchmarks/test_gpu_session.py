"""benchmarks/gpu_session.py: every part in its limits whatever the others do, without hydra, mlflow and datasets."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from benchmarks import gpu_session, rows
from benchmarks.gpu_session import Part
from benchmarks.parts import collect, forgetting, versions
from benchmarks.parts import tests as gpu_tests
from benchmarks.parts.part import Part as PartHere
from goldfish.composing import compose
from goldfish.composing.compose import Composer
from goldfish.config.config import Config, resolve
from goldfish.papers import experiment, plan, selection
from goldfish.sweep.identity import fingerprint
from goldfish.tracking import spool
from goldfish.tracking.store import Store
from goldfish.training import train
from goldfish.training.outcome import Outcome

ROOT = Path(__file__).parents[2]
PARTS = {
    "right": "tell('a', ok=True); keep('table.csv')",
    "fails": "tell('a', ok=True); sys.exit('it breaks')",
    "raises": "raise RuntimeError('it breaks')",
    "wrong": "tell('a', ok=True); tell('b', ok=False)",
    "hangs": "tell('a'); child = subprocess.Popen(['sleep', '60']); tell('pid', value=str(child.pid)); time.sleep(60)",
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell('a'); time.sleep(60)",
    "cut": "tell('a', ok=True); open(told['rows'], 'a').write('{\"part\": ')",
    "silent": "pass",
}
HEAD = """\
import json, os, signal, subprocess, sys, time
told = json.loads(sys.argv[1])
def tell(case, value="1", ok=None, note=""):
    with open(told["rows"], "a") as file:
        file.write(json.dumps({"part": told["name"], "case": case, "value": value, "ok": ok, "note": note}) + "\\n")
def keep(name):
    open(told["folder"] + "/" + name, "w").write("1")
"""


@pytest.fixture
def _fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that go well and wrong in every way, as programs of their own."""
    for name, code in PARTS.items():
        (tmp_path / f"fake_{name}.py").write_text(HEAD + code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def canonical(config: Config) -> str:
    """A key of a configuration."""
    return json.dumps(config.plain(), sort_keys=True)


def _run(out: Path, *names: str, limit: float = 60, monkeypatch: pytest.MonkeyPatch, **more: Any) -> int:
    chosen = [Part(name, f"fake_{name}", 540.0, **more) for name in names]
    monkeypatch.setattr(gpu_session, "parts", lambda device: chosen)
    return gpu_session.main(["--out", str(out), "--limit", str(limit), "--device", "cpu"])


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "rows.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("_fakes")
@pytest.mark.parametrize("bad", ["fails", "raises", "wrong", "deaf"])
def test_each_part_goes_on_when_another_fails(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the exit code says so; what it had found by then is kept."""
    limit = 7 if bad == "deaf" else 60
    assert _run(tmp_path / "out", bad, "right", limit=limit, monkeypatch=monkeypatch) == 1
    cases = [(row["part"], row["case"], row["ok"]) for row in _rows(tmp_path / "out")]
    before = {"fails": [("a", "True")], "wrong": [("a", "True"), ("b", "False")], "deaf": [("a", "")]}.get(bad, [])
    assert cases[: len(before)] == [(bad, *case) for case in before]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "something is WRONG" in table
    if bad != "deaf":  # it had taken all of the time
        assert cases[-1] == ("right", "a", "True")
    assert ("it breaks" in (tmp_path / "out" / "log.txt").read_text()) == (bad in ("fails", "raises"))


@pytest.mark.usefixtures("_fakes")
def test_nothing_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of which a tool is missing is not run, and one that has nothing to tell is not wrong."""
    out = tmp_path / "out"
    assert _run(out, "right", "cut", "silent", monkeypatch=monkeypatch) == 0
    assert [row["part"] for row in _rows(out)] == ["right", "cut"]
    assert "nothing is wrong" in (out / "table.md").read_text()
    assert sorted(file.name for file in out.iterdir()) == ["collected.tar.gz", "log.txt", "rows.csv", "table.md"]
    with tarfile.open(out / "collected.tar.gz") as archive:
        assert "parts/right/table.csv" in archive.getnames()
    assert _run(out, "right", monkeypatch=monkeypatch, tool=("goldfish-has-no-such-tool",)) == 0
    assert "| right | not run | 0 | 1 | 0 |" in (out / "table.md").read_text()


@pytest.mark.usefixtures("_fakes")
def test_the_whole_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part has its share and is stopped with all that it has started; for those after it no time is left."""
    started = time.monotonic()
    assert _run(tmp_path / "out", "hangs", "right", "hangs", limit=7, monkeypatch=monkeypatch) == 1
    assert time.monotonic() - started < 7
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| hangs | stopped: it took too long" in table
    assert "| right | no time left" in table
    pid = next(row["value"] for row in _rows(tmp_path / "out") if row["case"] == "pid")
    assert not Path(f"/proc/{pid}/cmdline").is_file() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_parts_fit_into_the_limit() -> None:
    for device in ("cpu", "cuda"):
        found = gpu_session.parts(device)
        assert sum(part.seconds for part in found) + gpu_session.LAST <= gpu_session.LIMIT <= 540
        assert len({part.name for part in found}) == len(found)
        for part in found:
            assert (ROOT / part.module.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("scale", ["smoke", "gpu"])
def test_the_plan_is_hydras(scale: str) -> None:
    """Every trial and every reported run is the one that `goldfish reproduce` would train."""
    expected = plan.plan(experiment.read("forgetting"), scale, Composer(compose.loader()))
    assert expected.trials is not None
    found = forgetting.Plan("forgetting", scale)
    trials = found.trials()
    names = list(expected.trials.candidates)
    theirs = {(canonical(t.config), t.group, names.index(t.candidate)) for t in expected.trials.runs}
    assert {(canonical(config), group, index) for config, group, index in trials} == theirs
    assert len(trials) == len(expected.trials.runs)
    chosen = {group: place % len(names) for place, group in enumerate(expected.trials.groups)}
    runs = expected.runs({group: names[index] for group, index in chosen.items()})
    assert sorted(map(canonical, found.runs(chosen))) == sorted(map(canonical, runs))
    first = next(iter(chosen))
    assert {found.group(config) for config in found.runs({first: 0})} == {first}


def test_what_the_trials_select_is_the_same() -> None:
    """With ties and diverged trials; a group with a missing trial waits."""
    found = forgetting.Plan("forgetting", "cpu")
    trials, draw = found.trials(), random.Random(0)
    known = {
        canonical(config): Outcome(
            config, "diverged" if draw.random() < 0.2 else "unsolved",
            metrics={"val/accuracy": draw.choice((0.1, 0.3, 0.3, 0.9)), "recall/chance": 0.125},
        )
        for config, *_ in trials
    }  # fmt: skip
    kept: Any = ModuleType("outcomes")
    kept.of = lambda config: known.get(canonical(config))
    tried = [
        {"outcome": known[canonical(config)].verdict, **known[canonical(config)].metrics, "candidate": str(index)}
        | dict(zip(("task", "cell", "init"), group, strict=True))
        for config, group, index in trials
    ]
    scores = selection.score(pd.DataFrame(tried), ["task", "cell", "init"], ["0", "1", "2"], "val/accuracy")
    expected = {group: int(index) for group, index in selection.chosen(scores).items()}
    assert forgetting.select(found, trials, kept) == expected
    config, group, _ = trials[-1]
    del known[canonical(config)]
    assert forgetting.select(found, trials, kept) == {key: index for key, index in expected.items() if key != group}


def _left(tmp_path: Path, config: Config) -> Path:
    """What a run leaves: a table of a GPU, a quick one of a CPU, and an outcome that waits."""
    parts, about = tmp_path / "parts", {"machine": "one H100", "quick": "no"}
    rows.write(parts / "packing" / "packing.csv", [rows.row("packing", "a", "b", 1.0)], about | {"device": "cuda"})
    quick = about | {"device": "cpu", "quick": "yes"}
    rows.write(parts / "floor" / "floor.csv", [rows.row("floor", "a", "b", 1.0)], quick)
    outcome = Outcome(config, "unsolved", metrics={"val/accuracy": 0.5})
    about_it = spool.About("forgetting", fingerprint(config), "forgetting", "0", {"machine": "one H100"})
    spool.put(parts / "forgetting", about_it, outcome)
    folder = tmp_path / "left"
    folder.mkdir()
    with tarfile.open(folder / collect.ARCHIVE, "w:gz") as archive:
        archive.add(parts, "parts")
    return folder


def test_what_is_left_goes_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables of a GPU, and outcomes with the machine that made them; a later run does not train those again."""
    config = resolve({"tracking": {"experiment_name": "forgetting"}})
    folder, home = _left(tmp_path, config), tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(collect, "ROOT", home)
    assert collect.main(folder) == 0
    found, about = rows.read(home / "benchmarks" / "results" / "gpu" / "packing.csv")
    assert (found[0].value, about["machine"]) == (1.0, "one H100")
    assert not (home / "benchmarks" / "results" / "gpu" / "floor.csv").exists()
    (waiting,) = spool.waiting(Store().state)
    kept, outcome = spool.read(waiting)
    assert (kept.provenance, outcome.metrics) == ({"machine": "one H100"}, {"val/accuracy": 0.5})
    assert collect.main(tmp_path) == 2
    assert "expected the --out of an earlier run" in capsys.readouterr().err

    again = tmp_path / "again"
    again.mkdir()
    part = PartHere("forgetting", "cpu", True, 60.0, again / "rows.jsonl", again, str(folder))
    monkeypatch.setattr(train, "train_pack", lambda *_, **__: pytest.fail("it is trained again"))
    outcomes = forgetting.Outcomes(part)
    assert outcomes.of(config).metrics == outcome.metrics
    outcomes.train([config])
    assert len(spool.waiting(again)) == 1


def test_how_tests_ended_is_read_from_pytests_words() -> None:
    """Of one process and of pytest-xdist's workers; what is told again at the end counts once."""
    text = """\
tests/gpu/test_cuda_gpu.py::test_tiles[rnn tanh] PASSED                 [ 50%]
tests/gpu/test_cuda_gpu.py::test_packs[lstm-(33, 7, 1, 1)] FAILED       [100%]
[gw3] [  7%] PASSED tests/gpu/test_engines_gpu.py::test_a_cell_trains[auto]\u0020
[gw12] [100%] SKIPPED tests/gpu/test_engines_gpu.py::test_the_network_moves[gru cuda]
FAILED tests/gpu/test_cuda_gpu.py::test_packs[lstm-(33, 7, 1, 1)] - AssertionError
tests/gpu/test_cuda_gpu.py::test_tiles[rnn tanh]
"""
    assert [(name.partition("::")[2], kind) for name, kind in gpu_tests.ended(text)] == [
        ("test_tiles[rnn tanh]", "PASSED"),
        ("test_packs[lstm-(33, 7, 1, 1)]", "FAILED"),
        ("test_a_cell_trains[auto]", "PASSED"),
        ("test_the_network_moves[gru cuda]", "SKIPPED"),
    ]


BLIND = """\
import sys
from importlib.machinery import PathFinder
ABSENT = set("hydra omegaconf hydra_plugins mlflow datasets pandas pyarrow numba llvmlite threadpoolctl".split())
class Blind(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Blind
"""


def _bare(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The script as on a bare machine: what is not needed there cannot be imported in any of its processes."""
    (tmp_path / "sitecustomize.py").write_text(BLIND)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [
        sys.executable,
        "benchmarks/gpu_session.py",
        "--device",
        "cpu",
        "--quick",
        "--out",
        str(tmp_path / "out"),
    ]
    return subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.sample
def test_on_a_bare_machine(tmp_path: Path) -> None:
    """Versions, training and its bits, and as much of the experiment as goes into the time."""
    done = _bare(tmp_path, "--only", "versions,bits,forgetting", "--limit", "1500")
    log = (tmp_path / "out" / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + log
    assert set(re.findall(r"No module named '(\w+)", log)) <= {"llvmlite", "threadpoolctl"}  # of peers, and engine=cpu
    found = {(row["part"], row["case"]): row for row in _rows(tmp_path / "out")}
    assert all(row["ok"] == "True" for (part, case), row in found.items() if part == "bits" and "alone" in case)
    trained, _, every = found["forgetting", "trials"]["value"].partition(" of ")
    assert trained == every == "8"
    assert found["forgetting", "reported runs"]["value"] == "16 of 16"
    with tarfile.open(tmp_path / "out" / "collected.tar.gz") as archive:
        outcomes = [name for name in archive.getnames() if name.endswith(".outcome")]
    assert len(outcomes) == 24


@pytest.mark.faults
def test_everything_on_a_bare_machine(tmp_path: Path) -> None:
    """All parts, the kernels in the emulator and under the sanitizers."""
    done = _bare(tmp_path, "--limit", "6000")
    log = (tmp_path / "out" / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + log
    assert set(re.findall(r"No module named '(\w+)", log)) <= {"llvmlite", "threadpoolctl"}  # of peers, and engine=cpu
    found = _rows(tmp_path / "out")
    assert {row["part"] for row in found} == {part.name for part in gpu_session.parts("cpu")}
    assert not [row for row in found if "no time" in row["note"]]


def test_what_is_needed_and_absent_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(versions, "_version", lambda name: "" if name == "torchmetrics" else "1")
    monkeypatch.setattr(versions, "_first_line", lambda tool: "")
    part: Any = ModuleType("part")
    part.device, part.row = "cpu", lambda case, value="", ok=None, note="": told.update({case: ok})
    versions.main(part)
    assert (told["torchmetrics"], told["torch"], told["mlflow"]) == (False, True, None)
