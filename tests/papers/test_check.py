"""`goldfish check`: verdicts of made-up results, kept, compared and shown at one glance."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from goldfish.cli import main
from goldfish.papers import check as checking
from goldfish.papers import experiment, results
from goldfish.papers.published import COLUMNS

PUBLISHED = """\
"LSTM solves T = 50",success,cell=lstm,,solved,6,6,,runs,a paper,printed
"LSTM above RNN",more,cell=lstm,cell=rnn,test/accuracy,,,,accuracy,a paper,printed
"LSTM at T = 999",success,cell=lstm length=999,,solved,6,6,,runs,a paper,printed
"""
README = "# study: does it solve?\n\n<!-- results/cpu/verdicts.md -->\n<!-- end -->\n"


def table(lstm: float) -> pd.DataFrame:
    """Five LSTMs and five RNNs; the LSTMs have this accuracy, and are solved from .9 on."""
    rows = [
        {"fingerprint": f"{cell}{seed}", "outcome": "solved" if value > 0.9 else "unsolved", "cell": cell,
         "init": "pytorch", "task": "recall", "length": 50, "seed": seed, "test/accuracy": value + seed / 1000}
        for cell, value in (("lstm", lstm), ("rnn", 0.5))
        for seed in range(5)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments" / "study"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("base: {seed: 0}\nscales: {smoke: {}, cpu: {}, gpu: {}}\n")
    (folder / "published.csv").write_text(",".join(COLUMNS) + "\n" + PUBLISHED)
    (folder / "README.md").write_text(README)
    write(folder / "results" / "cpu", 0.95)
    monkeypatch.chdir(tmp_path)
    only = {"study": folder}
    monkeypatch.setattr(experiment, "folders", lambda: only)
    return folder


def write(place: Path, lstm: float) -> None:
    results.write(place, {results.RUNS: table(lstm)}, "made up")


def test_verdicts_and_what_they_come_to(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "study"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("study: reproduced\n")
    assert "reproduced: LSTM solves T = 50: 5/5 solved (published 6/6), p = 1  [success]" in told
    assert "reproduced: LSTM above RNN: 0.952" in told
    assert "not run at this scale: LSTM at T = 999: –" in told


def test_a_changed_verdict_is_exit_code_1(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--update"]) == 0
    assert main(["check"]) == 0
    write(Path("outputs") / "study" / "cpu", 0.3)
    capsys.readouterr()
    assert main(["check", "study"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("study: not reproduced\n")
    assert (
        "goldfish: study: LSTM solves T = 50: 'not reproduced', but 'reproduced' is kept; --update keeps it" in told.err
    )
    assert main(["check", "--update"]) == 0
    assert main(["check"]) == 0


def test_kept_verdicts_are_in_the_readme_and_the_overview(study: Path) -> None:
    assert main(["check", "--update"]) == 0
    verdicts = (study / "results" / "cpu" / "verdicts.md").read_text()
    assert (
        "| LSTM solves T = 50 | 5/5 solved (published 6/6), p = 1 | reproduced | success | a paper (printed) |"
        in verdicts
    )
    assert verdicts in (study / "README.md").read_text()
    overview = (study.parent / "README.md").read_text()
    row = (
        "| [study](study/README.md) | does it solve? | reproduced (2 of 2 decided; 3 claims) | not run at this scale |"
    )
    assert row in overview


def test_bad_input(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "published.csv").unlink()
    assert main(["check", "study"]) == 2
    assert capsys.readouterr().err == "goldfish: study: no published.csv with rules; those that have one: none\n"
    assert main(["check", "--scale", "cup"]) == 2
    assert "--scale=cup: did you mean 'cpu'" in capsys.readouterr().err


def test_reproduce_all_is_every_paper(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def reproduce(names: list[str], **options: object) -> int:
        asked.append(names)
        return 0

    monkeypatch.setattr("goldfish.papers.reproduce.reproduce", reproduce)
    assert main(["reproduce", "--all", "--scale", "smoke"]) == 0
    assert asked == [["study"]]
    assert main(["reproduce", "--all", "study"]) == 2
    assert "--all: stands for every paper's experiment; leave out study" in capsys.readouterr().err


def test_what_is_kept_in_the_repository_is_what_the_rules_say() -> None:
    """Of every experiment and scale: verdicts.csv, verdicts.md and the overview are those of the committed tables."""
    for name in checking.with_claims():
        found = experiment.read(name)
        for scale in checking.SCALES:
            place = results.published(found, scale)
            if not (place / results.MANIFEST).is_file():
                continue
            judged = checking.judge(found, scale, place)
            kept = pd.read_csv(place / checking.VERDICTS, keep_default_na=False)
            assert list(kept["verdict"]) == [one.verdict for _, one in judged.claims], name
            assert (place / checking.TABLE).read_text(encoding="utf-8") == checking.markdown(judged, scale)
    overview = Path(__file__).parents[2] / "experiments" / "README.md"
    assert overview.read_text(encoding="utf-8") == checking.overview_text()
