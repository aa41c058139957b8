"""A training step as one CUDA graph: the host starts all its kernels at once and not one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from goldfish.tasks.base import Batch

Step = Callable[..., Tensor]
Replay = Callable[[], None]
WARM_UP = 3  # plain steps first: they compile kernels and fill the pools of buffers


class GraphedStep:
    """Replays a step with fixed shapes, once a replay was seen to give the same bits as the plain step.

    >>> step = GraphedStep(forward_and_backward, lambda: [gradient])
    >>> loss = step(inputs, targets)

    The first calls run plainly. The next one runs both ways from the same state: where they differ, or the step cannot
    be captured, it stays plain, and says so once. A batch with other shapes runs plainly.

    Args:
        step: takes a batch's tensors and returns the loss; what else it changes, it changes in place, and it asks
            nothing of the host (no `.item()`, no printing).
        state: every tensor that the step changes, such as the gradient.
        capture: records a step on tensors that stay in place, for tests without a GPU.
    """

    def __init__(
        self,
        step: Step,
        state: Callable[[], Sequence[Tensor]],
        capture: Callable[[Step, Sequence[Tensor], Tensor], Replay] | None = None,
    ) -> None:
        self._step, self._state, self._capture = step, state, capture or _capture
        self._plain_calls = 0
        self._given_up = False
        self._replay: Replay | None = None
        self._batch: list[Tensor] = []
        self._loss = torch.empty(0)

    def __call__(self, *batch: Tensor) -> Tensor:
        """One training step on a batch; the loss, detached."""
        if self._replay is not None and self._fits(batch):
            return self._replayed(self._replay, batch)
        if self._given_up or self._replay is not None or self._plain_calls < WARM_UP:
            self._plain_calls += 1
            return self._step(*batch).detach()
        return self._first(batch)

    def _fits(self, batch: Sequence[Tensor]) -> bool:
        if len(batch) != len(self._batch):
            return False
        pairs = zip(batch, self._batch, strict=True)
        return all((a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) for a, b in pairs)

    def _replayed(self, replay: Replay, batch: Sequence[Tensor]) -> Tensor:
        for own, given in zip(self._batch, batch, strict=True):
            own.copy_(given)
        replay()
        return self._loss.clone()

    def _first(self, batch: Sequence[Tensor]) -> Tensor:
        """The step both ways from one state; afterwards the state is that of one step in any case."""
        before = _copies(self._state())
        loss = self._step(*batch).detach().clone()
        after = _copies(self._state())
        _put_back(self._state(), before)
        self._batch, self._loss = _copies(batch), torch.empty_like(loss)
        reason = ""
        try:
            replay = self._capture(self._step, self._batch, self._loss)
            replayed_loss = self._replayed(replay, batch)
        except Exception as error:  # torch's are RuntimeErrors, cuda-core's are not
            message = next(iter(str(error).splitlines()), "") or type(error).__name__
            reason = f"the step cannot be captured: {message}"
        else:
            pairs = zip([*self._state(), replayed_loss], [*after, loss], strict=True)
            if all(_same(a, b) for a, b in pairs):
                self._replay = replay
                return replayed_loss
            reason = "its replay gives other bits than the plain step"
        _put_back(self._state(), after)
        self._given_up = True
        logging.getLogger(__name__).warning("training goes on without a CUDA graph: %s", reason)
        return loss


def of_batches(
    step: Callable[[Batch], Tensor], state: Callable[[], Sequence[Tensor]], like: Batch
) -> Callable[[Batch], Tensor]:
    """The step of a batch, replayed for batches that have the tensors that `like` has."""

    def with_tensors(*tensors: Tensor) -> Tensor:
        left = iter(tensors)
        return step(like.map(lambda _: next(left)))

    graphed = GraphedStep(with_tensors, state)
    return lambda batch: graphed(*batch.tensors)


def _capture(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    torch.cuda.synchronize()
    # torch's own context stays on the capture's stream where the capture fails at its end: the outer one leaves it
    # other threads allocate and copy what is drawn ahead meanwhile: that is no part of what is captured
    captured = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    with torch.cuda.stream(stream), captured:
        loss.copy_(step(*batch).detach())
    return graph.replay


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _same(a: Tensor, b: Tensor) -> bool:
    """The same bits; a NaN is equal to a NaN."""
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
