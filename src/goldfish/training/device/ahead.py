"""Batches that threads draw ahead of training: on a GPU a step takes less time than drawing its batch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from goldfish.tasks.base import Batch

Draw = Callable[[], Batch]  # some replicas' part of a block, (steps, r, B, …), on the CPU


def ahead(
    blocks: Iterator[Sequence[Draw]], device: torch.device, dtype: torch.dtype, depth: int = 1
) -> Iterator[Batch]:
    """Blocks of batches on the device, (steps, R, B, …), floats in `dtype`: `depth` of them are drawn ahead.

    What is drawn is the same as without threads, as long as no draw depends on another one. An exception in a draw is
    raised where its block would come.

    Args:
        blocks: the draws of each block, of equal shapes; they are joined along the replica axis, in this order.
        device: where the blocks go: through pinned memory and on a stream of their own, where that is a GPU.
        dtype: of floats.
        depth: blocks in the making while one is used.
    """
    if device.type == "cuda" and device.index is None:  # in another thread it would be another device
        device = torch.device("cuda", torch.cuda.current_device())
    waiting: deque[_Block] = deque()
    used: deque[torch.cuda.Event] = deque()
    try:
        for draws in blocks:
            waiting.append(_Block(draws, device, dtype))
            if len(waiting) > depth:
                yield waiting.popleft().ready()
                if device.type == "cuda":  # the host must not run so far ahead that blocks pile up on the device
                    used.append(torch.cuda.current_stream(device).record_event())
                    if len(used) > depth:
                        used.popleft().synchronize()
    finally:
        for block in waiting:
            block.cancel()


class _Block:
    """A block in the making: each draw is copied to its place as soon as it is there; the last one sends the whole."""

    def __init__(self, draws: Sequence[Draw], device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype, self._parts = device, dtype, len(draws)
        self._lock, self._left = threading.Lock(), len(draws)
        self._sent: torch.cuda.Event | None = None
        self._whole: Batch | None = None
        self._futures = [_threads().submit(self._draw, part, draw) for part, draw in enumerate(draws)]

    def _draw(self, part: int, draw: Draw) -> None:
        drawn = draw()
        with self._lock:
            self._whole = self._whole or drawn.map(self._empty)
        for whole, own in zip(self._whole.tensors, drawn.tensors, strict=True):
            whole.unflatten(1, (self._parts, -1))[:, part] = own
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._send()

    def _empty(self, like: Tensor) -> Tensor:
        steps, replicas, *shape = like.shape
        dtype = self._dtype if like.is_floating_point() else like.dtype
        pinned = self._device.type == "cuda"
        return torch.empty(steps, replicas * self._parts, *shape, dtype=dtype, pin_memory=pinned)

    def _send(self) -> None:
        if self._device.type != "cuda":
            return
        assert self._whole is not None
        with torch.cuda.stream(_stream(self._device)):
            self._whole = self._whole.map(lambda value: value.to(self._device, non_blocking=True))
            self._sent = torch.cuda.current_stream().record_event()

    def ready(self) -> Batch:
        """Wait for the block."""
        for future in self._futures:
            future.result()
        assert self._whole is not None
        if self._sent is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._sent)
            for tensor in self._whole.tensors:
                tensor.record_stream(current)  # its memory is another stream's
        return self._whole

    def cancel(self) -> None:
        """Give up the block, which is no longer wanted; draws that have begun are finished."""
        for future in self._futures:
            future.cancel()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="goldfish-draw")


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
