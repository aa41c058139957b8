"""Random number generators: each stream has its own seed, derived from the run's; checkpoints keep the global ones."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU generator for one purpose ("weights", "train", …) of one run, and one block of it."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def state() -> dict[str, Any]:
    """Python's, NumPy's and torch's own generators: no seed of ours feeds them, but another package may draw."""
    version, keys, gauss = random.getstate()
    mersenne = np.random.get_state(legacy=False)
    return {
        "python": [version, torch.tensor(keys), gauss],
        "numpy": [torch.from_numpy(mersenne["state"]["key"].astype(np.int64)), int(mersenne["state"]["pos"])],
        "numpy_normal": [int(mersenne["has_gauss"]), float(mersenne["gauss"])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def load(state: dict[str, Any]) -> None:
    """Restore the generators from a state."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys.tolist()), gauss))
    numpy_keys, position = state["numpy"]
    np.random.set_state(("MT19937", numpy_keys.numpy().astype(np.uint32), position, *state["numpy_normal"]))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
