"""The fingerprint of a run: sha256 of what makes it the run it is.

Paths, devices, worker counts, pack size, scale and tracking are no part of it; real data enters by its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from goldfish.config.config import Config, defaults

FORMAT = 1  # a new one makes every recorded run a stranger: change it only when the meaning of a key changes
# settings that recorded runs know nothing of, as they were then
LATER = {"omega": 0.0, "stop_when_solved": False, "probe_at": ["before", "half", "after"], "callbacks": []}


def fingerprint(config: Config) -> str:
    """Return 64 hex digits that equal those of every other configuration of the same run.

    `config` is resolved (goldfish.config.config), so that 1 and 1.0 have become the same number. Raises
    ConfigError when the run's real data cannot be reached.
    """
    (found,) = fingerprints([config])
    return found


def fingerprints(configs: Sequence[Config], known: Sequence[str | None] | None = None) -> list[str]:
    """The fingerprints of several configurations.

    `known` is what `contents` says of them; without it real data are looked at anew, once for all configurations.
    """
    known = contents(configs) if known is None else known
    identities = (identity(config.plain(), content) for config, content in zip(configs, known, strict=True))
    return [hashlib.sha256(canonical(own).encode()).hexdigest() for own in identities]


def contents(configs: Sequence[Config]) -> list[str | None]:
    """The content hash of each configuration's real data as they are now; None for synthetic data."""
    from goldfish.data.sources import content_hash, origin

    origins = [origin(config.task) for config in configs]
    tasks = {own: config.task for own, config in zip(origins, configs, strict=True)}
    found = {own: content_hash(task) for own, task in tasks.items()}
    return [found[own] for own in origins]


def identity(config: dict[str, Any], content: str | None) -> dict[str, Any]:
    """The part of a configuration that the fingerprint covers; real data by its content, not by its folder."""
    task = config["task"]
    if content is not None:
        task = {key: value for key, value in task.items() if key != "data"} | {"content": content}
    trainer = {
        key: value
        for key, value in config["trainer"].items()
        if key not in ("accelerator", "loggers") and not (key in LATER and value == LATER[key])
    }
    rest = {key: value for key, value in config.items() if key != "tracking"}
    for group in ("model", "probe"):  # runs were recorded before there was anything to choose
        if rest.get(group) == defaults()[group]:
            del rest[group]
    return rest | {"task": task, "trainer": trainer, "format": FORMAT}


def canonical(value: Any) -> str:
    """JSON with sorted keys and without spaces; floats as Python's shortest repr. Raises ValueError for NaN and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
