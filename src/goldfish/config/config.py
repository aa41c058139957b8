"""The configuration of one run: filled with defaults and checked against the signatures.

    {cell: {name, hidden_size, …}, init: {name, …}, task: {name, length, …}, optimizer: {name, lr, …}, model: {name, …},
     trainer: {max_steps, …}, tracking: {experiment_name}, probe: {gradient_flow: {samples, …}, …}, seed, engine}

Nothing here imports torch or Hydra: a notebook calls `resolve`, and so do the command line and the sweeper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from goldfish.config import registry, settings, signatures
from goldfish.config.settings import Choice, Section, Tracking, Trainer
from goldfish.config.signatures import Parameter
from goldfish.errors import ConfigError, nearest

CHOICES = {"cell": "rnn", "init": "pytorch", "task": "recall", "optimizer": "adam", "model": "recurrent"}
PROBES = ("gradient_flow", "recall", "spectral_radius")  # what is measured unless `probe` says otherwise
GROUPS = (*CHOICES, "probe", "trainer", "tracking")  # the keys that hold others
_LONGEST = 250  # characters that MLflow takes of a name


@dataclass(frozen=True, kw_only=True, eq=False)
class Config(Section):
    """The complete configuration of one run; `goldfish.resolve` makes it.

    >>> resolve({"cell": "lstm"}).cell.name
    'lstm'

    `probe` holds the arguments of each probe by name.
    """

    cell: Choice
    init: Choice
    task: Choice
    optimizer: Choice
    model: Choice
    trainer: Trainer
    tracking: Tracking
    probe: Mapping[str, Mapping[str, Any]]
    seed: Annotated[int, Ge(0)] = 0
    engine: Literal["auto", "eager", "stepwise", "cpu", "cuda"] = "auto"

    def __or__(self, changes: Mapping[str, Any]) -> Config:
        """With other values of some keys: `config | {"seed": 3}`. Raises ConfigError as `resolve` does."""
        return resolve({**self, **changes})


def schema(group: str, name: str | None = None) -> dict[str, Parameter]:
    """The keys below `group`: of the chosen thing for cell, init, task and optimizer, else of trainer or tracking.

    Those below `probe.<name>`, of a probe.
    """
    if group in registry.GROUPS:
        return registry.signature(group, name or CHOICES[group]).parameters
    return signatures.read(Path(settings.__file__), group).parameters


def top_level() -> dict[str, Parameter]:
    """The keys outside any group: seed and engine."""
    return signatures.read(Path(__file__), "config").parameters


def resolve(values: Mapping[str, Any]) -> Config:
    """Return the complete configuration of a run.

    `values` may leave out whatever has a default; a group may be given as its name alone (`cell="lstm"`), and probes as
    a list of names. Those that are not named are not measured.
    Raises ConfigError for an unknown key or choice, a wrong type, a value out of range, or what does not fit together.
    """
    loose = top_level()
    for key in values:
        if key not in GROUPS and key not in loose:
            raise ConfigError(f"{key}={values[key]}: unknown key; {nearest(key, [*GROUPS, *loose])}")
    config = _typed(
        {group: _group(group, values.get(group, {})) for group in GROUPS if group != "probe"}
        | {"probe": _probes(values.get("probe", PROBES))}
        | {key: loose[key].check(key, values.get(key, loose[key].default)) for key in loose}
    )
    _check_together(config)
    _check_experiment_name(config.tracking.experiment_name)
    return config


def recorded(values: Mapping[str, Any]) -> Config:
    """Read a configuration that was recorded; keys that were added since then have their defaults."""
    return _typed({**defaults(), **values})


def _typed(values: Mapping[str, Any]) -> Config:
    chosen: dict[str, Any] = {group: Choice.of(values[group]) for group in CHOICES}
    chosen |= {"trainer": Trainer(**values["trainer"]), "tracking": Tracking(**values["tracking"])}
    return Config(**{**values, **chosen})


def _group(group: str, given: Any) -> dict[str, Any]:
    chosen = {"name": given} if isinstance(given, str) else dict(given or {})
    if group not in CHOICES:
        return _arguments(group, None, chosen)
    name = chosen.pop("name", CHOICES[group])
    return {"name": name} | _arguments(group, name, chosen)


def _probes(given: Any) -> dict[str, dict[str, Any]]:
    """The probes by name, sorted, with their arguments; given as a name, names, or names with arguments."""
    named = [given] if isinstance(given, str) else given or ()
    arguments = named if isinstance(named, Mapping) else {}
    return {name: _arguments("probe", name, arguments.get(name) or {}) for name in sorted(named)}


def _arguments(group: str, name: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a thing, or the settings of a group, checked and complete."""
    known, arguments = schema(group, name), {}  # raises for an unknown choice
    for key, value in given.items():
        if key not in known:
            raise unknown_key(group, name, key, value)
    for key, parameter in known.items():
        where = _key(group, name, key)
        if parameter.required and key not in given:
            raise ConfigError(f"{where}: a value is required, {parameter.expected()}")
        arguments[key] = parameter.check(where, given.get(key, parameter.default))
    return arguments


def _key(group: str, name: str | None, key: str) -> str:
    return f"probe.{name}.{key}" if group == "probe" and name else f"{group}.{key}"


@cache
def defaults() -> Config:
    """The configuration of a run for which no key is given."""
    return resolve({})


def unknown_key(group: str, name: str | None, key: str, value: Any) -> ConfigError:
    """The error for a key that the chosen thing does not take: names who takes it, or the nearest key."""
    head = f"{_key(group, name, key)}={value}: "
    if group == "probe" and name is None:
        probe = key.partition(".")[0]
        registry.signature(group, probe)  # raises for an unknown probe
        return ConfigError(f"{head}{probe} is not measured; name it in probe=[…]")
    owners = [other for other in registry.names(group) if key in schema(group, other)] if group in CHOICES else []
    if owners:
        return ConfigError(f"{head}{group}={name} has no argument '{key}'; it belongs to {group}={', '.join(owners)}")
    return ConfigError(f"{head}unknown key; {nearest(key, schema(group, name))}")


def _check_together(config: Config) -> None:
    """Refuse an initialisation that does not suit the cell, a length the task does not have, data that is not there."""
    cell, init, task = config.cell.name, config.init.name, config.task
    _check_model(config)
    _check_omega(config)
    if cell not in _suited(init, cell):
        fitting = [name for name in registry.names("init") if cell in _suited(name, cell)]
        only = ", ".join(_suited(init, cell))
        raise ConfigError(f"init={init}: does not suit cell={cell}, only {only}; {nearest(init, fitting)}")
    folder = task.get("data")
    if folder is not None and not Path(folder).is_dir():
        what = "this is a file; expected the folder that it lies in" if Path(folder).is_file() else "no such folder"
        raise ConfigError(f"task.data={folder}: {what}; expected one with parquet files, or null")
    for group in ("callback", "logger"):
        for name in config.trainer[f"{group}s"]:
            if name not in registry.modules(group):
                known = registry.names(group)
                offered = nearest(name, known) if known else "no installed package offers one"
                raise ConfigError(f"trainer.{group}s={name}: {offered}")
    for argument, lengths in registry.signature("task", task.name).constants.get("LENGTHS", {}).items():
        only = lengths[task[argument]]
        if task["length"] != only:
            raise ConfigError(f"task.length={task['length']}: task.{argument}={task[argument]} has {only} steps")
    for moment in config.trainer.probe_at:
        if isinstance(moment, int) and moment > config.trainer.max_steps:
            raise ConfigError(
                f"trainer.probe_at={moment}: expected at most trainer.max_steps={config.trainer.max_steps}"
            )


def _check_model(config: Config) -> None:
    """Refuse a model that does not suit the task, and arguments or cells that it does not use there."""
    model, task = config.model.name, config.task.name
    described, asked = registry.signature("model", model), registry.signature("task", task).attributes
    readout, kind = asked.get("readout", "last"), asked.get("kind", "classification")
    suited = described.constants.get("READOUTS", (readout,)), described.constants.get("KINDS", (kind,))
    if readout not in suited[0] or kind not in suited[1]:
        what = "a value" if kind not in suited[1] else {"every": "an answer at every step"}.get(readout, "a sequence")
        raise ConfigError(f"model={model}: task={task} asks for {what}, which it does not give; use model=recurrent")
    for name, readouts in described.constants.get("ONLY", {}).items():
        if readout not in readouts and config.model[name] != described.parameters[name].default:
            raise ConfigError(f"model.{name}={config.model[name]}: has no meaning for task={task}; leave it out")
    for group in () if over_cells(model) else ("cell", "init"):
        if config[group] != _group(group, {}):
            head = f"{group}={config[group].name}: model={model} has no {group}"
            raise ConfigError(f"{head}; leave cell and init at their defaults")


def _check_omega(config: Config) -> None:
    """Refuse Ω where it is not defined: the adjoint of one layer of a vanilla RNN, read in one direction."""
    weight, cell, model = config.trainer.omega, config.cell, config.model
    one = model.name == "recurrent" and not model["bidirectional"] and cell["num_layers"] == 1
    readout = registry.signature("task", config.task.name).attributes.get("readout", "last")
    if weight and not (cell.name == "rnn" and one and readout != "decoded"):
        raise ConfigError(f"trainer.omega={weight}: only cell=rnn of one layer, in one direction, has it; expected 0")


def over_cells(model: str) -> bool:
    """True for a model that `cell` and `init` describe; a bag of words has neither."""
    return bool(registry.signature("model", model).constants.get("OVER_CELLS"))


def _check_experiment_name(name: str) -> None:
    """Refuse a name of an MLflow experiment that could pass for a path or upset a terminal."""
    head = f"tracking.experiment_name={name}: "
    if not name.strip() or name != name.strip():
        raise ConfigError(f"{head}expected a name without spaces around it")
    if len(name) > _LONGEST or not name.isprintable():
        raise ConfigError(f"{head}expected at most {_LONGEST} printable characters")
    leads = any(part in ("", ".", "..") for part in name.removeprefix("/").split("/"))
    if "\\" in name or name.startswith("~") or leads:
        raise ConfigError(f"{head}expected a name, no path that leads elsewhere")


def _suited(init: str, cell: str) -> tuple[str, ...]:
    cells: tuple[str, ...] = registry.signature("init", init).constants.get("CELLS", (cell,))
    return cells
