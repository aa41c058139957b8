"""What a configuration may not do, wherever it comes from: name code to be run, or lead out of its place.

Hydra calls whatever a `_target_` below its callbacks, launcher or sweeper names, and Python's logging what its own
configuration names. A command line or a folder of YAML files from somebody else must not be a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from goldfish.errors import ConfigError

PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
CALLED = ("launcher", "sweeper")  # Hydra's plugins, chosen by name: hydra/launcher=…
LOGGING = ("job_logging", "hydra_logging")
_HANDLERS = ("logging.StreamHandler", "logging.FileHandler")
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOG = "${hydra.runtime.output_dir}/${hydra.job.name}.log"  # where Hydra's own configurations log to
_FORMATTER = "colorlog.ColoredFormatter"
_FOLDERS = (("run", "dir"), ("sweep", "dir"), ("sweep", "subdir"), ("output_subdir",), ("job", "name"))


def check(config: DictConfig) -> None:
    """Raise ConfigError when a composed configuration names code to be run, or a folder above its own."""
    for path, value in _leaves(OmegaConf.to_container(config)):
        if path[-1] == "_target_" and (path[0] != "hydra" or path[1:-1] not in {(name,) for name in CALLED}):
            raise ConfigError(f"{_key(path)}={value}: a configuration cannot name code to be called")
    hydra: Any = OmegaConf.to_container(config.hydra)
    if hydra.get("callbacks"):
        raise ConfigError(f"hydra.callbacks={hydra['callbacks']}: Hydra's callbacks are not supported")
    if (hydra.get("job") or {}).get("env_set"):
        raise ConfigError("hydra.job.env_set: not supported; set environment variables before the command")
    for name in CALLED:
        _check_plugin(name, OmegaConf.to_container(config.hydra[name], resolve=True))
    for name in LOGGING:
        _check_logging(name, hydra.get(name))
    for path in _FOLDERS:
        _check_folder(path, hydra)


def _check_plugin(name: str, values: Any) -> None:
    """Interpolations are resolved here: what Hydra will call may come from anywhere."""
    for path, value in _leaves(values):
        if path[-1] == "_target_" and (len(path) > 1 or not str(value).startswith(PLUGINS)):
            where = _key(("hydra", name, *path))
            raise ConfigError(f"{where}={value}: a configuration cannot name code to be called; choose hydra/{name}=…")


def _check_logging(name: str, values: Any) -> None:
    """Logging calls the class of a handler, whatever `()` names, and looks up ext://…"""
    for path, value in _leaves(values):
        key, text = path[-1], str(value)
        named = {"()": (_FORMATTER,), "class": _HANDLERS, "filename": (_LOG,)}.get(key)
        foreign = text.startswith(("ext://", "cfg://")) and text not in _STREAMS
        hidden = text.startswith("${") and text != _LOG
        if foreign or hidden or (named is not None and value not in named):
            raise ConfigError(f"{_key(('hydra', name, *path))}={value}: only what hydra/{name}=… offers is supported")


def _check_folder(path: tuple[str, ...], hydra: Mapping[str, Any]) -> None:
    value: Any = hydra
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    parts = re.split(r"[/\\]", str(value))
    if ".." in parts or (path == ("job", "name") and len(parts) > 1):
        raise ConfigError(f"{_key(('hydra', *path))}={value}: expected a place that does not lead upwards")


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping, with its keys; whatever stands below `_target_` or `()` is one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            here = (*path, str(key))
            if key in ("_target_", "()"):
                yield here, item
            else:
                yield from _leaves(item, here)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    elif path:
        yield path, value


def _key(path: tuple[str, ...]) -> str:
    return ".".join(path)
