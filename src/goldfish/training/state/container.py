"""An outcome as bytes and back: what a worker sends to its parent, and what waits on disk for a store that is away.

Two lines and what follows them: the magic words with the sha256 of all the rest; the outcome as JSON, NaN and infinity
as Python writes them; the weights as torch.save wrote them. Nothing in it can run when it is read.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import fields
from typing import Any

from goldfish.training.outcome import Outcome, Point

_MAGIC = b"goldfish outcome 1"
WEIGHTS = "weights.pt"


def dumps(outcome: Outcome) -> bytes:
    """Everything of an outcome; tensors in its state_dict are saved, {"weights.pt": bytes} is taken as it is."""
    weights = _weights(outcome.state_dict)
    plain = {item.name: getattr(outcome, item.name) for item in fields(outcome) if item.name != "state_dict"}
    plain["metrics"] = {name: float(value) for name, value in outcome.metrics.items()}
    plain["curves"] = [(p.quantity, p.phase, float(p.x), float(p.value)) for p in outcome.curves]
    rest = json.dumps(plain).encode() + b"\n" + weights
    return b"%s %s\n%s" % (_MAGIC, hashlib.sha256(rest).hexdigest().encode(), rest)


def loads(data: bytes) -> Outcome:
    """The outcome, its state_dict {"weights.pt": bytes}, or {} without weights. Raises ValueError for damaged data."""
    head, _, rest = data.partition(b"\n")
    if head != b"%s %s" % (_MAGIC, hashlib.sha256(rest).hexdigest().encode()):
        raise ValueError(f"this is no outcome, or a damaged one ({len(data)} bytes)")
    line, _, weights = rest.partition(b"\n")
    plain: dict[str, Any] = json.loads(line)
    plain["curves"] = [Point(*point) for point in plain["curves"]]
    return Outcome(**plain, state_dict={WEIGHTS: weights} if weights else {})


def _weights(state_dict: dict[str, Any]) -> bytes:
    saved = state_dict.get(WEIGHTS)
    if isinstance(saved, bytes) or not state_dict:
        return saved or b""
    import torch

    buffer = io.BytesIO()
    # A view would be saved with the whole pack's storage behind it.
    torch.save({name: value.detach().cpu().clone() for name, value in state_dict.items()}, buffer)
    return buffer.getvalue()
