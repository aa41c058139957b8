"""`goldfish check`: the comparison of our results with the published ones, with a verdict on each claim."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from goldfish.errors import ConfigError
from goldfish.figures import grid, table
from goldfish.papers import experiment as experiments
from goldfish.papers import published, results, rules
from goldfish.papers.experiment import Experiment
from goldfish.papers.published import NOT_RUN, Claim
from goldfish.papers.rules import Judged

VERDICTS, TABLE = "verdicts.csv", "verdicts.md"
SCALES = ("cpu", "gpu")  # smoke is there to see that all runs


class Checked(NamedTuple):
    """An experiment's claims at a scale, each with its verdict."""

    name: str
    folder: Path
    claims: list[tuple[Claim, Judged]]
    made: str = ""  # of how many runs, in what time, on which machine, by which commit

    @property
    def verdict(self) -> str:
        """The verdict on all claims together."""
        return rules.overall([judged.verdict for _, judged in self.claims])


def with_claims() -> list[str]:
    """The experiments that have published results with rules."""
    return [name for name, folder in sorted(experiments.folders().items()) if published.read(folder)]


def check(names: Sequence[str], *, scale: str, update: bool) -> int:
    """Print every claim with its verdict; return 1 if a verdict differs from the one kept with the experiment.

    With `update` the new verdicts become those that are kept. Raises ConfigError for an experiment without claims.
    """
    known = with_claims()
    for name in names:
        if experiments.folder(name) and name not in known:
            raise ConfigError(f"{name}: no published.csv with rules; those that have one: {', '.join(known) or 'none'}")
    changed = []
    for name in names or known:
        checked = judge(experiments.read(name), scale)
        print(f"{name}: {checked.verdict}\n{published.text(checked.claims)}\n")
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
    try:
        place = place or results.find(experiment, scale)
        runs, _ = results.read(place)
    except ConfigError:
        claims = published.read(experiment.folder)
        nothing = [(claim, Judged("" if claim.rule == "note" else NOT_RUN, "–")) for claim in claims]
        return Checked(experiment.name, experiment.folder, nothing)
    manifest = json.loads((place / results.MANIFEST).read_text(encoding="utf-8"))
    hours = grid.column(runs, "train/seconds").sum() / 3600
    made = f"{len(runs)} runs, {hours:.2g} core hours; {manifest['machine']}, commit {manifest.get('commit', '–')[:10]}"
    return Checked(experiment.name, experiment.folder, published.verdicts(experiment.folder, runs), made)


def keep(checked: Checked, scale: str) -> None:
    """Write the verdicts beside the results that are kept with the experiment, if any, and into its README."""
    place = checked.folder / "results" / scale
    if checked.claims and (place / results.MANIFEST).is_file():
        rows = [(claim.claim, claim.rule, judged.verdict, judged.told) for claim, judged in checked.claims]
        frame = pd.DataFrame(rows, columns=["claim", "rule", "verdict", "told"])
        frame.to_csv(place / VERDICTS, index=False)
        (place / TABLE).write_text(markdown(checked, scale), encoding="utf-8")
        results.embed(checked.folder)


def _changes(checked: Checked, scale: str) -> list[str]:
    """Where a verdict is not the one that is kept."""
    kept = checked.folder / "results" / scale / VERDICTS
    if not kept.is_file():
        return []
    before = pd.read_csv(kept, keep_default_na=False).set_index("claim")["verdict"].to_dict()
    return [
        f"{checked.name}: {claim.claim}: '{judged.verdict}', but '{before.get(claim.claim, 'nothing')}' is kept"
        for claim, judged in checked.claims
        if before.get(claim.claim) != judged.verdict
    ]


def markdown(checked: Checked, scale: str) -> str:
    """A table with a row for each claim, below the command that makes it and the overall verdict."""
    rows = [["claim", "ours", "verdict", "rule", "source"]]
    for claim, judged in checked.claims:
        row = [claim.claim, judged.told, judged.verdict or "–", claim.rule, f"{claim.source} ({claim.read})"]
        rows.append([cell.replace("|", "\\|") for cell in row])
    command = f"`goldfish check {checked.name} --scale {scale}`"
    return f"{command}: **{checked.verdict}** ({checked.made})\n\n{table.piped(rows)}\n"


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
        "What papers report, beside our own runs. `goldfish check --update` writes this page by the rules in each",
        "experiment's `published.csv`. Scale `cpu` is what two cores can do, with shorter sequences and fewer seeds or",
        "steps than published, as each experiment says; scale `gpu` is the published setting. The rules:",
        "",
        *(f"- `{name}`: {rule}" for name, rule in published.RULES.items()),
        "",
        "An experiment is *reproduced* if every claim that can be decided is reproduced, *not reproduced* if none is,",
        "and *partly* reproduced otherwise; it is *inconclusive* if fewer than half of its claims can be decided.",
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
    verdicts = []
    for scale in SCALES:
        checked = judge(experiments.read(name), scale, experiments.folder(name) / "results" / scale)
        outcomes = [judged.verdict for _, judged in checked.claims]
        good, told = (sum(outcome in of for outcome in outcomes) for of in ([rules.REPRODUCED], rules.CONCLUSIVE))
        verdicts.append(checked.verdict + (f" ({good} of {told} decided; {len(outcomes)} claims)" if told else ""))
    return f"| {_link(name)} | {_question(name)} | {' | '.join(verdicts)} |"


def _link(name: str) -> str:
    return f"[{name}]({name}/README.md)"


def _question(name: str) -> str:
    first = (experiments.folder(name) / "README.md").read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").removeprefix(f"{name}: ")
