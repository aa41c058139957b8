"""A module that is called step by step, (x_t, s_{t-1}) → s_t, in a loop of the model's own.

The steps of one sequence are told by their states: a call that is given the very tensors that an earlier call returned
continues it. Gradients flow as they would unwatched. Beside them goes a second chain in float64, each step run again,
with a power-of-two exponent per sample, so that the norms do not underflow.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from goldfish.engines import scaled
from goldfish.instrument.flow import Measured

State = tuple[Tensor, ...]
_TOLERANCE = 1e-3  # of a step that is run again in float64, relative to its largest number


@dataclass
class Call:
    """One step of a sequence.

    Attributes:
        module: what was called.
        x: its input.
        before: the states that it was given.
        after: those that it returned.
        record: takes the measurements of the whole sequence; asked of the first call.
        previous: the call that returned `before`, if a watched one did.
        following: the call that continues this one.
        through: what reaches `after` by way of the following call, as true values.
        beside: the same over the joint state, as mantissas (B, S) and exponents (B,), float64.
        norms: by state, (B,), once the backward pass has been here.
        twin: the module in float64, of the first call.
    """

    module: nn.Module
    x: Tensor
    before: State
    after: State
    record: Callable[[Measured], None]
    previous: Call | None
    following: Call | None = None
    through: Sequence[Tensor] | None = None
    beside: tuple[Tensor, Tensor] | None = None
    norms: dict[str, Tensor] = field(default_factory=dict)
    twin: nn.Module | None = None

    def __post_init__(self) -> None:
        self.first: Call = self if self.previous is None else self.previous.first


class Forward:
    """A step module's forward while it is watched; `recorder()` gives what takes measurements now."""

    def __init__(self, module: nn.Module, recorder: Callable[[], Callable[[Measured], None]]) -> None:
        self.module, self.recorder = module, recorder
        self.calls: Any = WeakTensorKeyDictionary()

    def __call__(self, x: Tensor, state: Any = None) -> Any:
        """The module's own forward; states that come from an earlier call are told apart on their way back."""
        given = None if state is None else (tuple(state) if isinstance(state, (tuple, list)) else (state,))
        previous = self._previous(given)
        if previous is not None and given is not None:
            given = tuple(_Entry.apply(previous, *given))  # type: ignore[no-untyped-call]
        packed = given if given is None or isinstance(state, (tuple, list)) else given[0]
        returned = type(self.module).forward(self.module, x, packed)
        after = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
        before = tuple(torch.zeros_like(part) for part in after) if given is None else given
        call = Call(self.module, x.detach(), _detached(before), _detached(after), self.recorder(), previous)
        if previous is not None:
            previous.following = call
        after = tuple(_Exit.apply(call, *after))  # type: ignore[no-untyped-call]
        for part in after:
            self.calls[part] = call
        return after if isinstance(returned, (tuple, list)) else after[0]

    def _previous(self, given: State | None) -> Call | None:
        """The call that returned these very tensors; None where anything was done to them."""
        found = {id(call): call for call in (self.calls.get(part) for part in given or ()) if call is not None}
        if len(found) != 1 or not given:
            return None
        (call,) = found.values()
        return call if call.following is None and all(part in self.calls for part in given) else None


class _Entry(torch.autograd.Function):
    """The identity on the states that a call is given; what flows back is handed to the call before it."""

    @staticmethod
    def forward(ctx: Any, previous: Call, *states: Tensor) -> State:
        """Pass everything through."""
        ctx.previous = previous
        return tuple(state.view_as(state) for state in states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Leave the gradient with the call before, whose states see zero from here."""
        ctx.previous.through = gradients
        return (None, *(torch.zeros_like(gradient) for gradient in gradients))


class _Exit(torch.autograd.Function):
    """The identity on the states that a call returns; the backward pass is measured here."""

    @staticmethod
    def forward(ctx: Any, call: Call, *states: Tensor) -> State:
        """Pass everything through."""
        ctx.call = call
        return tuple(state.view_as(state) for state in states)

    @staticmethod
    def backward(ctx: Any, *direct: Tensor) -> Any:
        """Measure, and pass on the whole gradient: the direct one, and what came by way of the following call."""
        call, whole = ctx.call, direct
        _measure(call, direct)
        if call.through is not None:
            whole = tuple(one + other for one, other in zip(direct, call.through, strict=True))
        call.through = call.beside = None
        if call.previous is None:
            call.record(_assembled(call))
        return (None, *whole)


def _measure(call: Call, direct: Sequence[Tensor]) -> None:
    """Write down the norms of one step, and what goes to the call before it."""
    joint = torch.cat([_rows(part) for part in direct], dim=-1)
    adjoint, exponent = scaled.rescale(joint, torch.zeros_like(joint[:, 0]))
    if call.beside is not None:
        adjoint, exponent = scaled.rescale(*scaled.add(adjoint, exponent, *call.beside))
    first = call.first
    if first.twin is None:
        first.twin = _twin(call.module)
    widths = [_rows(part).shape[-1] for part in call.after]
    parts = [part.reshape(own.shape) for part, own in zip(adjoint.split(widths, -1), call.after, strict=True)]
    with torch.enable_grad():
        before = tuple(state.double().requires_grad_() for state in call.before)
        packed = before if len(before) > 1 else before[0]
        returned = first.twin(call.x.double(), packed)
        after = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
        _compare(after, call.after)
        asked = [*before, *after[1:]]  # the other states' total adjoints include the path through h_t
        gradients = torch.autograd.grad(after, asked, parts, allow_unused=True, materialize_grads=True)
    names = ["h", *(["c"] if isinstance(call.module, nn.LSTMCell) else [f"s{k}" for k in range(1, len(after))])]
    totals = [adjoint[:, : widths[0]], *(_rows(part) for part in gradients[len(before) :])]
    call.norms = {name: scaled.log2_norm(total, exponent) for name, total in zip(names, totals, strict=True)}
    call.norms["state"] = scaled.log2_norm(adjoint, exponent)
    if call.previous is not None:
        to_before = torch.cat([_rows(part) for part in gradients[: len(before)]], dim=-1)
        call.previous.beside = (to_before, exponent)


def _compare(again: State, once: State) -> None:
    """Refuse a step that depends on chance. Raises RuntimeError."""
    for new, old in zip(again, once, strict=True):
        scale = max(float(old.abs().max()), 1e-30)
        if float((new.detach() - old.double()).abs().max()) > _TOLERANCE * scale:
            raise RuntimeError("a watched step gives other numbers when it is run again: take dropout out of it")


def _twin(module: nn.Module) -> nn.Module:
    """The module in float64, unwatched."""
    forward = module.__dict__.pop("forward")
    try:
        twin = copy.deepcopy(module)
    finally:
        module.__dict__["forward"] = forward
    return twin.double().requires_grad_(False)


def _assembled(first: Call) -> Measured:
    """The measurements of a sequence: norms (1, B, T); -inf at steps that the backward pass did not reach."""
    calls = [first]
    while calls[-1].following is not None:
        calls.append(calls[-1].following)
    B = next(iter(first.norms.values())).shape[0]
    nothing = torch.full((B,), -torch.inf, dtype=torch.float64, device=first.after[0].device)
    norms = {
        name: torch.stack([call.norms.get(name, nothing) for call in calls], -1).unsqueeze(0) for name in first.norms
    }
    return Measured(norms, None, 1)


def _rows(state: Tensor) -> Tensor:
    """(B, …) or, unbatched, (H,) → (B, ·), float64."""
    return state.double().flatten(1) if state.dim() > 1 else state.double().unsqueeze(0)


def _detached(states: State) -> State:
    return tuple(state.detach() for state in states)
