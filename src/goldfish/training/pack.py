"""Packs: runs that differ only in seed, initialisation and learning rate, trained together along the replica axis."""

from __future__ import annotations

import json
from typing import Any

from goldfish.config.config import Config


def pack_key(config: Config) -> str:
    """Runs with equal keys may share a pack: everything but seed, initialisation, learning rate and tracking."""
    shared: dict[str, Any] = {key: value for key, value in config.items() if key not in ("seed", "init", "tracking")}
    shared["optimizer"] = {key: value for key, value in config["optimizer"].items() if key != "lr"}
    return json.dumps(shared, sort_keys=True)
