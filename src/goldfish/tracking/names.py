"""The names that a run and its parameters, metrics and tags have in MLflow.

Parameters carry short names for the dozen that people group and sort by, dotted names (`init.gain`) for the rest, each
value once. A curve becomes one metric whose steps are its x: `gradient/log10_norm_by_lag` for what was measured after
training, the same with `_before` and `_half` for earlier moments. The tag `goldfish.curves` lists the curves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from goldfish.config.config import CHOICES, defaults, over_cells

if TYPE_CHECKING:
    from goldfish.training.outcome import Outcome

FINGERPRINT = "goldfish.fingerprint"
SWEEP = "goldfish.sweep"
OUTCOME = "goldfish.outcome"
REASON = "goldfish.reason"
SOURCE_HASH = "goldfish.source_hash"
CURVES = "goldfish.curves"
ENGINE = "goldfish.engine"  # the engine that ran, auto resolved
NONDETERMINISTIC = "goldfish.nondeterministic"  # why its bits may differ when it is trained again
INTERRUPTED = "goldfish.interrupted"  # why a run that ended KILLED did
SUPERSEDED = "goldfish.superseded"  # "true" on an attempt that was made again
GROUP = "goldfish.group"  # all of a run but its seed, short enough for a legend
ORDER = "goldfish.order"  # sorts runs by seed, then cell, initialisation, task and length as a number
FINISHED = ("solved", "unsolved", "diverged")  # outcomes that are results: such a run is not trained again

SHORT = {
    "cell.hidden_size": "hidden",
    "cell.num_layers": "layers",
    "task.length": "length",
    "optimizer.lr": "lr",
    "trainer.max_steps": "max_steps",
    "trainer.batch_size": "batch_size",
}  # cell, init, task, optimizer, seed and engine have short names already
LONG = {short: key for key, short in SHORT.items()}
COUNTS = {"parameters": "run/parameters", "seconds": "run/seconds", "steps": "run/steps", "packed": "run/packed"}

NO_INIT = "none"  # stands where the initialisation would, of a model that has none
_OF_CELLS = ("cell", "init")
LISTS = ("trainer.probe_at", "trainer.callbacks", "trainer.loggers")
_SUFFIX = {"after": "", "training": "", "before": "_before", "half": "_half"}
_LIMIT = 8000  # MLflow cuts a longer tag
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS = {"None": None, "True": True, "False": False}


TOLD = (  # what `status` and `explain` tell from
    *(FINGERPRINT, OUTCOME, REASON, SOURCE_HASH, SWEEP, INTERRUPTED, SUPERSEDED),
    *("goldfish.commit", "goldfish.dirty"),
)


def whole(status: str, outcome: str | None) -> bool:
    """True for a run that was recorded to its end: MLflow's status is set last and agrees with the outcome."""
    return status == {"failed": "FAILED"}.get(outcome or "", "FINISHED") and outcome is not None


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """{cell: {name: lstm, hidden_size: 32}, seed: 0} → {cell: lstm, cell.hidden_size: 32, seed: 0}.

    Lists, and what is measured, are written as JSON, and only where they differ from the default.
    """
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key == "probe":
            values |= _probes(value) if value != defaults()[key] else {}
        elif isinstance(value, Mapping):
            values |= {key if name == "name" else f"{key}.{name}": item for name, item in value.items()}
        else:
            values[key] = value
    for key in LISTS:
        given = values.pop(key, None)
        if given not in (None, defaults()["trainer"][key.removeprefix("trainer.")]):
            values[key] = json.dumps(given)
    return values


def _probes(probes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    arguments = {f"probe.{probe}.{name}": item for probe in probes for name, item in probes[probe].items()}
    return {"probe": json.dumps(list(probes))} | arguments


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """A configuration as MLflow parameters; a model that is not made of cells stands where the cell would."""
    flat = flatten(config)
    if not over_cells(flat.get("model", CHOICES["model"])):
        flat = {key: value for key, value in flat.items() if key.partition(".")[0] not in _OF_CELLS}
        flat |= {"cell": flat["model"], "init": NO_INIT}
    return {SHORT.get(key, key): str(value) for key, value in flat.items()}


def choices(settings: Mapping[str, str]) -> dict[str, str]:
    """The choice that a recorded run made in every group, given its parameters; "" where they do not say."""
    given = {group: settings.get(group, "") for group in CHOICES}
    given["model"] = given["model"] or CHOICES["model"]  # recorded before there was anything to choose
    return given | ({group: CHOICES[group] for group in _OF_CELLS} if given["init"] == NO_INIT else {})


def typed(parameters: Mapping[str, str]) -> dict[str, Any]:
    """MLflow parameters as flat configuration keys with the types they had."""
    return {LONG.get(key, key): _typed(value) for key, value in parameters.items()}


def _typed(value: str) -> Any:
    if value in _WORDS:
        return _WORDS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _FLOAT.fullmatch(value) else value


def metric(quantity: str, phase: str) -> str:
    """The metric that holds a curve."""
    return quantity + _SUFFIX.get(phase, f"_{phase}")


def curve_index(curves: Iterable[tuple[str, str]]) -> str:
    """The tag that names a run's curves, given (quantity, phase) of each: {phase: [quantity, …]} as JSON.

    Raises ValueError when two curves would share one metric, or when there are too many for a tag.
    """
    index: dict[str, list[str]] = {}
    owner: dict[str, tuple[str, str]] = {}
    for quantity, phase in sorted(set(curves)):
        name = metric(quantity, phase)
        if name in owner:
            raise ValueError(f"the curves {owner[name]} and {(quantity, phase)} would share the metric {name}")
        owner[name] = (quantity, phase)
        index.setdefault(phase, []).append(quantity)
    text = json.dumps(index, separators=(",", ":"))
    if len(text) > _LIMIT:
        raise ValueError(f"the names of {len(owner)} curves take more than the {_LIMIT} characters of a tag")
    return text


def curve_metrics(index: str) -> dict[str, tuple[str, str]]:
    """Metric name → (quantity, phase), from the tag."""
    phases = json.loads(index or "{}")
    return {metric(quantity, phase): (quantity, phase) for phase in phases for quantity in phases[phase]}


def run_name(config: Mapping[str, Any]) -> str:
    """Such as "lstm·chrono·recall T=80 seed 3"."""
    cell, init, task = kind(config)
    kinds = [cell, init, task] if init != NO_INIT else [cell, task]
    return f"{'·'.join(kinds)} T={config['task'].get('length', '–')} seed {config['seed']}"


def kind(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """A run's cell, initialisation and task, as its parameters have them."""
    flat = parameters(config)
    return flat["cell"], flat["init"], flat["task"]


def group(cell: str, init: str, task: str, length: object) -> str:
    """The name of a group of runs that differ only in their seed, such as "80·lstm·chrono recall".

    The length stands first because MLflow's list of groups cuts names after about ten characters.
    """
    return f"{'–' if length is None else length}·{cell}·{init} {task}"


def order(config: Mapping[str, Any]) -> str:
    """A sort key by which the first runs cover every cell, initialisation and length."""
    cell, init, task = kind(config)
    return f"{config['seed']:06d} {task} {cell} {init} {config['task'].get('length', 0):08d}"


def description(outcome: Outcome) -> str:
    """The description on a run's page: one line on what it was, and one on what came of it."""
    config, metrics = outcome.config, outcome.metrics
    flat = flatten(config)
    cell, init, _ = kind(config)
    made = f"**{cell}**" if init == NO_INIT else f"**{cell}** with initialisation **{init}**"
    what = (
        f"{made} on **{flat['task']}**, "
        f"T = {flat.get('task.length', '–')}, H = {flat.get('cell.hidden_size', '–')}, seed {flat['seed']}."
    )
    lines = [what, _result(outcome)]
    for name, title in (("gradient/horizon_before", "before training"), ("gradient/horizon", "after training")):
        if name in metrics:
            lines.append(f"Gradient horizon {title}: {_horizon(metrics, name)}.")
    if "recall/horizon" in metrics:
        lines.append(f"Recall horizon: {_horizon(metrics, 'recall/horizon')}.")
    return "  \n".join(lines)


def _result(outcome: Outcome) -> str:
    reason = f": {outcome.reason}" if outcome.reason else ""
    solved_at = outcome.metrics.get("time_to_solve")
    if outcome.verdict == "solved" and solved_at is not None:
        reason = f" at training step {solved_at:g}"
    accuracy = outcome.metrics.get("test/accuracy")
    test = "" if accuracy is None else f" Test accuracy {accuracy:.3f}."
    return f"{outcome.verdict.capitalize()}{reason}.{test}"


def _horizon(metrics: Mapping[str, float], name: str) -> str:
    """The number, with "≥" when the end of the sequence was reached."""
    head, _, phase = name.partition("/horizon")
    reached = metrics.get(f"{head}/horizon_reached_end{phase}", 0.0)
    return f"{'≥ ' if reached else ''}{metrics[name]:g}"


def slug(name: str) -> str:
    """A folder name for an experiment: letters, digits, dots, dashes; never empty, hidden or a way up."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:80]
    return plain or "experiment"
