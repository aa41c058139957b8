"""Packs: runs that differ only in seed, initialisation and learning rate, trained together along the replica axis."""

from __future__ import annotations

import json

from goldfish.config.config import Config


def pack_key(config: Config) -> str:
    """Runs with equal keys may share a pack: everything but seed, initialisation, learning rate and tracking."""
    shared = {key: value for key, value in config.plain().items() if key not in ("seed", "init", "tracking")}
    del shared["optimizer"]["lr"]
    return json.dumps(shared, sort_keys=True)
