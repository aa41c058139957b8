"""`goldfish reproduce forgetting`, as far as time goes, without Hydra and without a store.

Trials first, then the runs with what they select, cheap packs first. Every outcome is left as one that waits for a
store, with the machine that made it: once collected, `goldfish reproduce forgetting` records it and trains the rest.
Weights are left out, for they would be most of what has to be carried.
"""

from __future__ import annotations

import itertools
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.parts.part import Part, told

if TYPE_CHECKING:
    from goldfish.config.config import Config

NAME = "forgetting"
ROOT = Path(__file__).resolve().parents[2]
ARCHIVE, WAITING = "collected.tar.gz", f"parts/{NAME}/spool/"
Keys = Mapping[str, Any]
Group = tuple[Any, ...]


class Plan:
    """The runs of an experiment at a scale, as goldfish.papers.plan has them."""

    def __init__(self, name: str, scale: str) -> None:
        from goldfish.papers.experiment import read

        self.name, self.scale = name, read(name).scale(scale)
        self.select = self.scale.select
        assert self.select is not None
        axes = [(key, sorted(_values(values))) for key, values in self.select.candidates.items()]
        self.candidates = [dict(point) for point in _product(axes)]

    def trials(self) -> list[tuple[Config, Group, int]]:
        """Each trial's configuration, its group, and which candidate it tries."""
        assert self.select is not None
        seeds, changes = {"seed": self.select.seed}, self.select.trials
        grids = [{**self.scale.base, **keys, **changes[grid], **seeds} for grid, keys in self.scale.grids.items()]
        points = [point for grid in grids for point in _points(grid)]
        name = f"{self.name}-selection"
        configs = [(_config({**point, **c}, name), i) for i, c in enumerate(self.candidates) for point in points]
        return [(config, self.group(config), index) for config, index in configs]

    def runs(self, chosen: Mapping[Group, int]) -> list[Config]:
        """The reported runs of the groups for which a candidate is chosen."""
        found = []
        for keys in self.scale.grids.values():
            for point in _points({**self.scale.base, **keys}):
                group = self.group(_config({**point, **self.candidates[0]}, self.name))
                if group in chosen:
                    found.append(_config({**point, **self.candidates[chosen[group]]}, self.name))
        return found

    def group(self, config: Config) -> Group:
        """The values of the keys that a choice is made for."""
        from goldfish.tracking.names import flatten

        assert self.select is not None
        flat = flatten(config)
        return tuple("" if flat.get(key) is None else flat[key] for key in self.select.per)


def _values(written: Any) -> list[Any]:
    """The values of a key: a list, a range(…), texts between commas, or one value."""
    if isinstance(written, list):
        return [value for item in written for value in _values(item)]
    if isinstance(written, str) and written.startswith("range("):
        return list(range(*(int(number) for number in written[6:].rstrip(")").split(","))))
    if isinstance(written, str):
        return [yaml.safe_load(text) for text in written.split(",")]
    return [written]


def _product(axes: Sequence[tuple[str, list[Any]]]) -> Iterator[tuple[tuple[str, Any], ...]]:
    return itertools.product(*([(key, value) for value in values] for key, values in axes))


def _points(keys: Keys) -> list[dict[str, Any]]:
    """Every combination of the keys' values."""
    return [dict(point) for point in _product([(key, _values(written)) for key, written in keys.items()])]


def _config(point: Keys, experiment: str) -> Config:
    """The resolved configuration of a point."""
    from goldfish.config.config import CHOICES, resolve

    values: dict[str, Any] = {"tracking": {"experiment_name": experiment}}
    for key, value in point.items():
        head, _, inner = key.partition(".")
        if head == "trainer" and not inner:
            file = ROOT / "conf" / "trainer" / f"{value}.yaml"
            values["trainer"] = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) | values.get("trainer", {})
        elif inner or head in CHOICES:
            values.setdefault(head, {})[inner or "name"] = value
        else:
            values[head] = value
    return resolve(values)


class Outcomes:
    """What has been trained, now or before, kept as outcomes that wait for a store."""

    def __init__(self, part: Part) -> None:
        from goldfish.tracking import provenance

        self.part, self.provenance = part, provenance.collect()
        self.known: dict[tuple[str, str], Any] = {}
        self._take_over()

    def _take_over(self) -> None:
        """Those of an earlier folder."""
        from goldfish.tracking import spool

        archive = Path(self.part.resume, ARCHIVE)
        if self.part.resume and archive.is_file():
            with tarfile.open(archive) as packed:
                for member in packed.getmembers():
                    content = packed.extractfile(member) if member.name.startswith(WAITING) else None
                    if content is not None:
                        target = self.part.folder / "spool" / Path(member.name).name
                        target.parent.mkdir(exist_ok=True)
                        target.write_bytes(content.read())
        for path in spool.waiting(self.part.folder):
            about, outcome = spool.read(path)
            self.known[about.key] = outcome

    def of(self, config: Config) -> Any:
        """A run's outcome, or None."""
        return self.known.get(_key(config))

    def keep(self, outcome: Any) -> None:
        """Leave it for a store."""
        from goldfish.sweep.identity import source_hash
        from goldfish.tracking import spool

        slim, key = replace(outcome, state_dict={}), _key(outcome.config)
        spool.put(self.part.folder, spool.About(*key, NAME, source_hash(outcome.config), self.provenance), slim)
        self.known[key] = slim

    def train(self, configs: Sequence[Config]) -> None:
        """Train what is not known, pack by pack, the cheapest first, while there is time."""
        from goldfish.sweep import packs
        from goldfish.training.state.checkpoint import Interrupted
        from goldfish.training.train import train_pack

        left = [config for config in configs if self.of(config) is None]
        stop: Callable[[], bool] = lambda: self.part.time_left < 0  # noqa: E731
        for pack in reversed(packs.group(left, "auto", gpu=self.part.device == "cuda")) if left else []:
            chosen = [left[run] for run in pack]
            if stop():
                return
            try:
                for outcome in train_pack(chosen, stop=stop):
                    self.keep(outcome)
            except Interrupted:
                return
            except Exception as error:
                what = f"{len(chosen)} runs of {chosen[0]['task']['name']} {chosen[0]['cell']['name']}"
                self.part.row(what, "failed", False, f"{type(error).__name__}: {error}")


def _key(config: Config) -> tuple[str, str]:
    from goldfish.sweep.identity import fingerprint

    return config.tracking.experiment_name, fingerprint(config)


def main(part: Part) -> None:
    """Trials, selection, runs; a row for each arm with what is known of it."""
    plan = Plan(NAME, "smoke" if part.quick or part.device == "cpu" else "gpu")
    trials, outcomes = [trial for trial in plan.trials() if _wanted(part, trial[0])], Outcomes(part)
    outcomes.train([config for config, *_ in trials])
    chosen = select(plan, trials, outcomes)
    every = plan.runs(dict.fromkeys((group for _, group, _ in trials), 0))
    outcomes.train(plan.runs(chosen))
    found = [outcome for config in plan.runs(chosen) if (outcome := outcomes.of(config)) is not None]
    tried = sum(outcomes.of(config) is not None for config, *_ in trials)
    part.row("trials", f"{tried} of {len(trials)}")
    part.row("groups with a selected learning rate", f"{len(chosen)} of {len({group for _, group, _ in trials})}")
    part.row("reported runs", f"{len(found)} of {len(every)}", note="--resume goes on")
    _tell(part, found)


_absent: set[str] = set()


def _wanted(part: Part, config: Config) -> bool:
    """Whether the task's data are on this machine, said once where they are not; of a quick look one arm is enough."""
    from goldfish.errors import ConfigError

    if part.quick and (config.task.name, config.cell.name) != ("recall", "rnn"):
        return False
    try:
        _key(config)
    except ConfigError as error:
        if str(error) not in _absent:
            _absent.add(str(error))
            part.row(f"task={config.task.name}", "left out", None, str(error))
        return False
    return True


def select(plan: Plan, trials: Sequence[tuple[Config, Group, int]], outcomes: Outcomes) -> dict[Group, int]:
    """The candidate of each group whose trials are all there: the highest mean accuracy, of equals the smallest.

    A diverged trial counts at chance, as in goldfish.papers.selection.
    """
    found = {}
    for group in dict.fromkeys(group for _, group, _ in trials):
        scores: dict[int, list[float]] = {}
        own = [(outcomes.of(config), index) for config, key, index in trials if key == group]
        if any(outcome is None for outcome, _ in own):
            continue
        chance = next((o.metrics["recall/chance"] for o, _ in own if "recall/chance" in o.metrics), 0.0)
        for outcome, index in own:
            value = chance if outcome.verdict == "diverged" else outcome.metrics[plan.select.by]  # type: ignore[union-attr]
            scores.setdefault(index, []).append(value)
        means = {index: math.fsum(values) / len(values) for index, values in sorted(scores.items())}
        found[group] = max(means, key=lambda index: means[index])
    return found


def _tell(part: Part, outcomes: Sequence[Any]) -> None:
    """A row for each task, cell and initialisation: accuracy on the test set by length, and how many were solved."""
    arms: dict[tuple[str, str, str], list[Any]] = {}
    for outcome in outcomes:
        config = outcome.config
        arms.setdefault((config.task.name, config.cell.name, config.init.name), []).append(outcome)
    for (task, cell, init), own in arms.items():
        by_length: dict[int, list[float]] = {}
        for outcome in own:
            value = outcome.metrics.get("test/accuracy", math.nan)
            by_length.setdefault(outcome.config.task["length"], []).append(value)
        texts = [f"{length}: {math.fsum(v) / len(v):.2f} (n={len(v)})" for length, v in sorted(by_length.items())]
        solved = sum(outcome.verdict == "solved" for outcome in own)
        part.row(f"{task} {cell} {init}: test accuracy by length", ", ".join(texts), None, f"{solved} solved")


if __name__ == "__main__":
    main(told())
