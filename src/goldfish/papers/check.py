"""`goldfish check`: our results beside the published ones, a verdict for each claim, and the table of all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from goldfish.errors import ConfigError
from goldfish.figures import grid
from goldfish.papers import experiment as experiments
from goldfish.papers import published, readme, results, rules
from goldfish.papers.experiment import Experiment
from goldfish.papers.published import NOT_RUN, Claim
from goldfish.papers.rules import Judged

VERDICTS, TABLE = "verdicts.csv", "verdicts.md"
SCALES = ("cpu", "gpu")  # smoke is there to see that all runs


class Checked(NamedTuple):
    """An experiment's claims at a scale, judged."""

    experiment: Experiment
    claims: list[Claim]
    judged: list[Judged]
    made: str = ""  # of how many runs, in what time, on which machine, by which commit

    @property
    def verdict(self) -> str:
        """What it all comes to."""
        return rules.overall([found.verdict for found in self.judged])


def with_claims() -> list[str]:
    """The experiments that have published results with rules."""
    return [name for name, folder in sorted(experiments.folders().items()) if published.read(folder)]


def check(names: Sequence[str], *, scale: str, update: bool) -> int:
    """Print every claim with its verdict; 1 where a verdict is not the one that is kept with the experiment.

    With `update` the verdicts found become those that are kept. Raises ConfigError for an experiment without claims.
    """
    for name in names:
        if not published.read(experiments.folder(name)):
            raise ConfigError(
                f"{name}: no published.csv with rules; those that have one: {', '.join(with_claims()) or 'none'}"
            )
    changed = []
    for name in names or with_claims():
        checked = judge(experiments.read(name), scale)
        print(f"{name}: {checked.verdict}")
        for claim, found in zip(checked.claims, checked.judged, strict=True):
            print(f"  {found.verdict or 'orientation'}: {claim.claim}: {found.told}  [{claim.rule}]")
        print()
        if update:
            keep(checked, scale)
        else:
            changed += _changes(checked, scale)
    if update:
        overview(Path("experiments"))
    for line in changed:
        print(f"goldfish: {line}; --update keeps it", file=sys.stderr)
    return 1 if changed else 0


def judge(experiment: Experiment, scale: str, place: Path | None = None) -> Checked:
    """Apply an experiment's rules to its results at a scale, by default those that `goldfish figures` would draw."""
    claims = published.read(experiment.folder)
    try:
        place = place or results.find(experiment, scale)
        runs, _ = results.read(place)
    except ConfigError:
        return Checked(experiment, claims, [_not_run(claim) for claim in claims])
    samples = pd.DataFrame(runs.attrs.get("samples", []))
    judged = [published.judge(claim, runs, samples) for claim in claims]
    return Checked(experiment, claims, judged, _made(place, runs))


def _made(place: Path, runs: pd.DataFrame) -> str:
    manifest = json.loads((place / results.MANIFEST).read_text(encoding="utf-8"))
    hours = grid.column(runs, "train/seconds").sum() / 3600
    return f"{len(runs)} runs, {hours:.2g} core hours; {manifest['machine']}, commit {manifest.get('commit', '–')[:10]}"


def _not_run(claim: Claim) -> Judged:
    return Judged("" if claim.rule == "note" else NOT_RUN, "–")


def keep(checked: Checked, scale: str) -> None:
    """Write the verdicts beside the results that are kept with the experiment, if any, and into its README."""
    place = results.published(checked.experiment, scale)
    if checked.claims and (place / results.MANIFEST).is_file():
        _frame(checked).to_csv(place / VERDICTS, index=False)
        (place / TABLE).write_text(markdown(checked, scale), encoding="utf-8")
        readme.embed(checked.experiment.folder)


def _frame(checked: Checked) -> pd.DataFrame:
    rows = [
        (claim.claim, claim.rule, found.verdict, found.told)
        for claim, found in zip(checked.claims, checked.judged, strict=True)
    ]
    return pd.DataFrame(rows, columns=["claim", "rule", "verdict", "told"])


def _changes(checked: Checked, scale: str) -> list[str]:
    """Where a verdict is not the one that is kept."""
    kept = results.published(checked.experiment, scale) / VERDICTS
    if not kept.is_file():
        return []
    before = pd.read_csv(kept, keep_default_na=False).set_index("claim")["verdict"].to_dict()
    name = checked.experiment.name
    return [
        f"{name}: {claim.claim}: '{found.verdict}', where '{before.get(claim.claim, 'nothing')}' is kept"
        for claim, found in zip(checked.claims, checked.judged, strict=True)
        if before.get(claim.claim) != found.verdict
    ]


def markdown(checked: Checked, scale: str) -> str:
    """A row for each claim; what makes it stands above."""
    head = ["claim", "ours", "verdict", "rule", "source"]
    lines = [f"`goldfish check {checked.experiment.name} --scale {scale}`: **{checked.verdict}** ({checked.made})", ""]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for claim, found in zip(checked.claims, checked.judged, strict=True):
        row = [claim.claim, found.told, found.verdict or "–", claim.rule, f"{claim.source} ({claim.read})"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def overview(folder: Path) -> None:
    """Write README.md of the folder of experiments: every verdict at one glance, from the results kept with them."""
    if not folder.is_dir():
        return
    (folder / "README.md").write_text(overview_text(), encoding="utf-8")


def overview_text() -> str:
    """All experiments that are compared with a paper, with their verdict at each scale, then what there is besides."""
    lines = [
        "# Experiments",
        "",
        "What papers report, beside our own runs. Written by `goldfish check --update`, by the rules in each",
        "experiment's `published.csv`. Scale `cpu` is what two cores do: shorter sequences, fewer seeds or steps than",
        "published, as each experiment says; scale `gpu` is the published setting. The rules:",
        "",
        *(f"- `{name}`: {rule}" for name, rule in published.RULES.items()),
        "",
        "An experiment is *reproduced* where every claim is that can be told, *not reproduced* where none is, *partly*",
        "otherwise, and *inconclusive* where fewer than half of its claims can be told.",
        "",
        "| experiment | question | cpu | gpu |",
        "|---|---|---|---|",
    ]
    names = with_claims()
    lines += [_row(name) for name in names]
    lines += ["", "Our own questions, without a paper's numbers:", "", "| experiment | question |", "|---|---|"]
    lines += [f"| {_link(name)} | {_question(name)} |" for name in sorted(experiments.folders()) if name not in names]
    return "\n".join(lines) + "\n"


def _row(name: str) -> str:
    experiment = experiments.read(name)
    verdicts = []
    for scale in SCALES:
        place = results.published(experiment, scale)
        checked = judge(experiment, scale, place)
        told = sum(found.verdict in (rules.REPRODUCED, rules.NOT) for found in checked.judged)
        good = sum(found.verdict == rules.REPRODUCED for found in checked.judged)
        counts = f" ({good} of {told} told, {len(checked.judged)} claims)" if told else ""
        verdicts.append(checked.verdict + counts)
    return f"| {_link(name)} | {_question(name)} | {' | '.join(verdicts)} |"


def _link(name: str) -> str:
    return f"[{name}]({name}/README.md)"


def _question(name: str) -> str:
    first = (experiments.folder(name) / "README.md").read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").removeprefix(f"{name}: ")
