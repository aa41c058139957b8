"""explain: one run, whether it is recorded, and why it would be trained again or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tracking.outcomes import make_outcome

from goldfish.cli import main
from goldfish.config.config import recorded
from goldfish.errors import ConfigError
from goldfish.inspect import explain as module
from goldfish.sweep.claims import Claims
from goldfish.sweep.identity import fingerprint, source_hash
from goldfish.tracking.store import Store
from goldfish.training.outcome import Outcome
from goldfish.training.state.checkpoint import Checkpoint

SAME = "cell=lstm init=chrono task=recall task.length=40 trainer.max_steps=600"
STUDY = f"{SAME} tracking.experiment_name=study"


def explain(words: list[str]) -> str:
    """What is said of a run that one MLflow experiment has."""
    (block,) = module.explain(words)
    return "\n".join(block)


def put(store: Store, outcome: Outcome, source: str = "", **provenance: str) -> str:
    """Record an outcome and give the id of its MLflow run."""
    return store.record(
        outcome,
        experiment_name=outcome.config["tracking"]["experiment_name"],
        sweep="s",
        fingerprint=fingerprint(outcome.config),
        source_hash=source or source_hash(outcome.config),
        provenance=provenance,
    )


def test_a_recorded_run(store: Store) -> None:
    outcome = make_outcome(seed=3, verdict="solved")
    run_id, made = put(store, outcome), fingerprint(outcome.config)
    expected = [
        f"lstm·chrono·recall T=40 seed 3, fingerprint {made[:12]}, MLflow experiment study",
        "recorded: solved, 2027-01-15 ",
        "not trained again: the same configuration, and the same source",
    ]
    for words in (
        [f"{STUDY} seed=3"],
        [*STUDY.split(), "seed=3"],
        [made[:8]],
        [made],
        [run_id],
        [run_id[:6]],
        ["lstm·chrono·recall T=40 seed 3"],
    ):
        lines = explain(words).splitlines()
        assert len(lines) == 3, words
        assert all(line.strip().startswith(start) for line, start in zip(lines, expected, strict=True)), lines
    assert run_id in explain([made])


def test_what_differs_from_the_nearest_finished_run(store: Store) -> None:
    put(store, make_outcome(seed=2, verdict="solved"))
    put(store, make_outcome(seed=1, length=80, verdict="solved"))
    put(store, make_outcome(seed=3, verdict="failed", reason="boom"))  # nearer, but no result
    lines = explain([f"{STUDY} seed=3 optimizer.lr=0.02"]).splitlines()
    assert lines[1:3] == ["  not recorded", "  would be trained"]
    assert lines[3].startswith("  nearest finished run: lstm·chrono·recall T=40 seed 2 (")
    assert sorted(line.strip() for line in lines[4:]) == ["optimizer.lr=0.02, there 0.001", "seed=3, there 2"]


def test_the_nearest_is_of_the_same_experiment(store: Store) -> None:
    put(store, make_outcome(seed=1, length=80, verdict="solved"))
    put(store, make_outcome(seed=2, verdict="solved", experiment_name="other"))
    assert "nearest finished run: lstm·chrono·recall T=80 seed 1 (" in explain([f"{STUDY} seed=3"])
    assert "nearest finished run of other: lstm·chrono·recall T=40 seed 2 (" in explain(
        [f"{SAME} tracking.experiment_name=third seed=3"]
    )


def test_what_makes_no_difference(store: Store) -> None:
    """Where it runs is no part of what a run is."""
    put(store, make_outcome(seed=2, verdict="solved"))
    assert "  not trained again" in explain([f"{STUDY} seed=2 trainer.accelerator=cpu"])
    assert module.differences({"a": "1", "trainer.accelerator": "cpu"}, {"a": "2", "b": "3"}) == [
        "a=1, there 2",
        "b=–, there 3",
    ]


def test_the_same_run_in_another_experiment(store: Store) -> None:
    put(store, make_outcome(seed=2, verdict="solved"))
    assert explain([f"{SAME} seed=2"]).splitlines()[1:] == [
        "  not recorded",
        "  would be trained",
        "  the same run is recorded in study: a run is trained once in each MLflow experiment",
    ]


def test_nothing_to_compare_with(store: Store) -> None:
    assert explain(["seed=3"]).splitlines()[-1] == "  no finished run to compare it with"


def test_stale(store: Store) -> None:
    made = fingerprint(make_outcome(seed=2).config)
    put(store, make_outcome(seed=2, verdict="solved"), source="0" * 64)
    text = explain([made])
    assert "recorded: solved, " in text
    assert "its source has changed since" in text
    assert "--rerun stale" in text


def test_which_files_have_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def changed(commit: str, files: list[Path]) -> list[str]:
        asked.append([commit, *(f"{path.parent.name}/{path.name}" for path in files)])
        return ["cells/lstm.py"]

    monkeypatch.setattr(module, "_changed", changed)
    put(store, make_outcome(seed=2, verdict="solved"), "0" * 64, commit="a" * 40, dirty="true")
    line = explain([f"{STUDY} seed=2"]).splitlines()[-1]
    assert line == "  changed since commit aaaaaaaaaa (which had uncommitted changes): cells/lstm.py"
    assert asked[0][0] == "a" * 40
    assert {"cells/lstm.py", "inits/chrono.py", "tasks/recall.py", "optimizers/adam.py"} <= set(asked[0])
    assert "inits/xavier.py" not in asked[0]


def test_a_commit_that_git_does_not_have() -> None:
    assert module._changed("f" * 40, [module.Path(module.__file__)]) is None


def test_failed_before(store: Store) -> None:
    put(store, make_outcome(seed=2, verdict="failed", reason="ValueError: boom"))
    lines = explain([f"{STUDY} seed=2"]).splitlines()
    assert lines[1].startswith("  failed before, ")
    assert lines[1].endswith(": ValueError: boom")
    assert lines[2] == "  would be trained again: a failure is no result"


def test_interrupted_with_a_checkpoint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fingerprint(make_outcome(seed=2).config)
    monkeypatch.setattr(
        "goldfish.training.state.checkpoint.find", lambda folder: [Checkpoint(Path("x"), (f"study/{made}",), 400)]
    )
    lines = explain([f"{STUDY} seed=2"]).splitlines()
    assert lines[1:3] == [
        "  interrupted: its process is gone, checkpoint of step 400",
        "  would be trained: it goes on from there",
    ]


def test_running(store: Store) -> None:
    made = fingerprint(make_outcome(seed=2).config)
    claims = Claims(store.state / "claims")
    claim = claims.of(("study", made), "seed=2", "s")
    claims.take([claim])
    lines = explain([f"{STUDY} seed=2"]).splitlines()
    assert lines[1].startswith(f"  running on {claim.host}, process {claim.pid}, since ")
    assert explain([made[:10]]).splitlines()[1:] == lines[1:]


def test_settings_that_make_another_run_today(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was added since, or content of real data that has changed, is named."""
    outcome = make_outcome(seed=2, verdict="solved")
    made = fingerprint(outcome.config)
    cell = {key: value for key, value in outcome.config.cell.items() if key != "num_layers"}
    outcome.config = recorded({**outcome.config, "cell": cell})
    store.record(outcome, experiment_name="study", sweep="s", fingerprint="ab" * 32, source_hash="", provenance={})
    text = explain(["abab"])
    assert f"its settings make another run today ({made[:12]})" in text
    assert "cell.num_layers=1, there –" in text


def test_settings_that_are_refused_today(store: Store) -> None:
    outcome = make_outcome(seed=2, verdict="solved")
    outcome.config = recorded({**outcome.config, "cell": {**outcome.config.cell, "gone": 1}})
    store.record(outcome, experiment_name="study", sweep="s", fingerprint="ab" * 32, source_hash="", provenance={})
    assert "today's code does not take its configuration: cell.gone=1" in explain(["abab"])


def test_what_names_no_run_or_several(store: Store) -> None:
    for seed in range(7):
        put(store, make_outcome(seed=seed, verdict="solved"))
    with pytest.raises(ConfigError, match=r"^nothing: no run of this name, id or fingerprint is recorded"):
        explain(["nothing"])
    outcome = make_outcome(seed=0, length=41, verdict="solved")
    for letter in "ab":
        made = "00" * 31 + f"0{letter}"
        store.record(outcome, experiment_name="study", sweep="s", fingerprint=made, source_hash="", provenance={})
    with pytest.raises(ConfigError, match=r"^00000000: 2 runs; give a fingerprint: 0000"):
        explain(["00000000"])


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (["cel=lstm"], "did you mean 'cell'"),
        (["cell=rnn,lstm"], "several values"),
        (["'seed=1"], "quotation"),
        ([], "Missing argument"),
    ],
)
def test_bad_input(words: list[str], holds: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words]) == 2
    said = capsys.readouterr()
    assert holds in said.err
    assert len(said.err.splitlines()) == 1
    assert list(here.iterdir()) == []
