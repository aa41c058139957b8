"""The fingerprint of a run: sha256 of what makes it the run it is.

Paths, devices, worker counts, pack size, scale and tracking are no part of it; real data enters by its content.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from goldfish.config import Config

FORMAT = 1  # a new one makes every recorded run a stranger: change it only when the meaning of a key changes
_ELSEWHERE = {"task": {"data"}, "trainer": {"accelerator"}}  # where things lie and run, not what they are


def fingerprint(config: Config) -> str:
    """Return 64 hex digits that equal those of every other configuration of the same run.

    `config` is resolved (goldfish.config.resolve), so that 1 and 1.0 have become the same number. Raises ConfigError
    when the run's real data cannot be reached.
    """
    return hashlib.sha256(canonical(identity(config)).encode()).hexdigest()


def identity(config: Config) -> dict[str, Any]:
    """The part of a configuration that the fingerprint covers, with the content hash of real data."""
    kept: dict[str, Any] = {key: value for key, value in config.items() if key != "tracking"}
    for group, keys in _ELSEWHERE.items():
        kept[group] = {key: value for key, value in config[group].items() if key not in keys}
    return kept | {"format": FORMAT, "content": _content(canonical(config["task"]))}


def canonical(value: Any) -> str:
    """JSON with sorted keys and without spaces; floats as Python's shortest repr. Raises ValueError for NaN and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@cache
def _content(task: str) -> str | None:
    """The content hash of a task's data, given its configuration in canonical form; None for synthetic data."""
    from goldfish.data import content_hash

    return content_hash(json.loads(task))
