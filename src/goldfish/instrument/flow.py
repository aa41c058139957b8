"""What `goldfish.watch` has seen: norms by module, by lag, as a table, as a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from goldfish.probes.gradient_flow import Decay


@dataclass
class Measured:
    """One backward pass through one call of a module.

    Attributes:
        log2_norm: log₂ of the adjoint's Euclidean norm by state, (layers · directions, B, T), float64; -inf only where
            the gradient is zero, NaN beyond a sequence's end. "h": the total dL/dh_t, through all later steps. "c"
            (LSTM): the total dL/dc_t, its path through h_t included. "state": the joint norm of ∂L/∂h_t and, for the
            LSTM, ∂L/∂c_t at fixed h_t. Layers from the bottom up; of each its forward direction first.
        lengths: of the sequences, (B,); None where all have T steps.
        directions: 1 or 2.
    """

    log2_norm: dict[str, Tensor]
    lengths: Tensor | None
    directions: int

    def by_lag(self, state: str = "state") -> Tensor:
        """Norms ordered by lag, (layers · directions, B, T): lag 0 is a sequence's own last step.

        In the backward direction of a bidirectional module that is the sequence's first word. NaN beyond the other end.
        """
        norms = self.log2_norm[state]
        T = norms.shape[-1]
        lags = torch.arange(T, device=norms.device)
        lengths = torch.full((norms.shape[1],), T, device=norms.device) if self.lengths is None else self.lengths
        last = lengths.unsqueeze(1) - 1 - lags
        ordered = norms.gather(-1, last.clamp(min=0).expand_as(norms)).masked_fill(last < 0, torch.nan)
        if self.directions == 2:
            ordered[1::2] = norms[1::2]
        return ordered

    def decay(self, layer: int = -1, state: str = "state") -> Decay | None:
        """Decay rate, half-life and horizon of one row (layer · directions) over the batch; None without a gradient."""
        from goldfish.probes.gradient_flow import decay

        return decay(self.by_lag(state)[layer])


class Flow:
    """The measurements of a model's recurrent modules, by name, as model.named_modules() has them.

    flow["lstm"] is the last backward pass through the module; `calls("lstm")` are all of them.
    """

    def __init__(self, names: list[str]) -> None:
        self._calls: dict[str, list[Measured]] = {name: [] for name in names}

    def __getitem__(self, name: str) -> Measured:
        calls = self.calls(name)
        if not calls:
            raise RuntimeError(f"no backward pass has gone through '{name}' while it was watched")
        return calls[-1]

    def __iter__(self) -> Iterator[str]:
        return iter(name for name, calls in self._calls.items() if calls)

    def calls(self, name: str) -> list[Measured]:
        """Every backward pass through a module, in their order. Raises KeyError for a module that is not watched."""
        if name not in self._calls:
            raise KeyError(f"{name!r} is not watched; there are {', '.join(map(repr, self._calls))}")
        return self._calls[name]

    def add(self, name: str, measured: Measured) -> None:
        """Keep one more measurement."""
        self._calls[name].append(measured)

    def check(self) -> None:
        """Raise RuntimeError when nothing has been measured."""
        if not any(self._calls.values()):
            raise RuntimeError(
                "no backward pass went through a watched module: call backward() inside the context, and the model "
                "outside torch.no_grad()"
            )

    def to_frame(self) -> pd.DataFrame:
        """A row for every module, call, layer, direction, sample, lag and state, with log10_norm."""
        import pandas as pd

        frames = []
        for name in self:
            for number, measured in enumerate(self.calls(name)):
                for state in measured.log2_norm:
                    norms = measured.by_lag(state).cpu() * math.log10(2)
                    rows, samples, lags = torch.meshgrid(*map(torch.arange, norms.shape), indexing="ij")
                    keep = ~norms.isnan()
                    frames.append(
                        pd.DataFrame({
                            "module": name, "call": number, "state": state,
                            "layer": (rows // measured.directions)[keep],
                            "direction": (rows % measured.directions)[keep],
                            "sample": samples[keep], "lag": lags[keep], "log10_norm": norms[keep],
                        })
                    )  # fmt: skip
        return pd.concat(frames, ignore_index=True)

    def summary(self) -> list[dict[str, Any]]:
        """A row for every module, layer and direction, of its last backward pass: decay rate, half-life, horizon."""
        rows = []
        for name in self:
            measured = self[name]
            for index in range(measured.log2_norm["h"].shape[0]):
                found = measured.decay(index)
                row = {"module": name, "layer": index // measured.directions, "direction": index % measured.directions}
                if found is not None:
                    row |= {"decay_rate": found.decay_rate, "half_life": found.half_life, "horizon": found.horizon}
                rows.append(row)
        return rows

    def plot(self) -> Figure:
        """The median of log10 ‖∂L/∂s_t‖ over samples against lag, a line for every module, layer and direction."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 2.5), layout="constrained")
        ax = figure.add_subplot()
        for name in self:
            measured = self[name]
            curves = (measured.by_lag() * math.log10(2)).nanmedian(1).values.cpu()
            for index, curve in enumerate(curves):
                arrow = ["→", "←"][index % 2] if measured.directions == 2 else ""
                ax.plot(curve, label=f"{name or 'model'}, layer {index // measured.directions}{arrow}")
        ax.set_xlabel("lag from the last step")
        ax.set_ylabel("log10 of the gradient's norm")
        ax.legend(fontsize=7, frameon=False)
        return figure
