"""The recurrent network itself: a cell over time, for R replicas at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from goldfish.cells.base import Cell, State
from goldfish.config import registry
from goldfish.engines import select
from goldfish.engines.layers import LayerWeights, Recorder
from goldfish.errors import ConfigError, nearest
from goldfish.inits.base import Layer

ENGINES = select.ENGINES
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """R independent recurrent networks with the same shapes, run together.

    >>> recurrent = Recurrent("lstm", input_size=3, hidden_size=32, num_layers=2, replicas=4)
    >>> outputs, state = recurrent(torch.randn(4, 16, 100, 3))  # (R, B, T, D)
    >>> outputs.shape, state["c"].shape                          # (R, B, T, H), (R, L, B, H)
    (torch.Size([4, 16, 100, 32]), torch.Size([4, 2, 16, 32]))

    Parameters are those of torch.nn with a leading replica axis: weight_ih_l0 (R, G·H, D), weight_hh_l0 (R, G·H, H),
    bias_ih_l0 and bias_hh_l0 (R, G·H). Unlike torch.nn, inputs are batch first, and the state is a dictionary.

    Args:
        cell: a registered cell's name, or a Cell.
        input_size: D.
        hidden_size: H.
        num_layers: L.
        replicas: R.
        engine: auto, eager, stepwise, cpu or cuda; auto takes the fastest that runs the cell where the inputs are.
        recompute: in the engine `cpu`, whether the backward pass computes gates again, √T steps at a time, rather than
            read them from memory: the same bits. By default from 10,000 steps on.
        device: where the parameters live.
        dtype: of the parameters.
        **arguments: the cell's further arguments, such as nonlinearity="relu".

    Raises:
        ConfigError: for an unknown cell, engine or argument, an engine that cannot run the cell, or device="mps".
    """

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        replicas: int = 1,
        engine: str = "auto",
        recompute: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if isinstance(cell, str):
            self.name = cell
            cell = _build(cell, {"hidden_size": hidden_size, "num_layers": num_layers, **arguments})
        else:
            self.name = type(cell).__name__.lower()
        self.cell, self.input_size, self.replicas = cell, input_size, replicas
        select.check(engine, cell)
        select.check_device(torch.device("cpu" if device is None else device))
        for key, size in (("input_size", input_size), ("replicas", replicas)):
            if not isinstance(size, int) or size < 1:
                raise ConfigError(f"{key}={size}: expected int ≥ 1")
        if dtype is not None and not dtype.is_floating_point:
            raise ConfigError(f"dtype={dtype}: expected real floating-point numbers, such as torch.float32")
        self.engine, self.recompute = engine, recompute
        self.recorder = Recorder()
        self._pool: dict[Any, list[Tensor]] = {}
        G, H = len(cell.gates), cell.hidden_size
        for layer in range(cell.num_layers):
            D = input_size if layer == 0 else H
            for name, shape in zip(_NAMES, ((G * H, D), (G * H, H), (G * H,), (G * H,)), strict=True):
                value = torch.empty(replicas, *shape, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(value.uniform_(-1, 1) / math.sqrt(H)))

    def layer_weights(self, layer: int) -> LayerWeights:
        """The four weights of one layer, replicas joined."""
        return LayerWeights(*(getattr(self, f"{name}_l{layer}") for name in _NAMES))

    def initialise(
        self,
        replica: int,
        init: Callable[..., None],
        generator: torch.Generator,
        sequence_length: int | None = None,
        **arguments: Any,
    ) -> None:
        """Initialise one replica: as PyTorch does, U(±1/√H), then what `init` replaces, layer by layer."""
        bound = 1 / math.sqrt(self.cell.hidden_size)
        with torch.no_grad():
            for index in range(self.cell.num_layers):
                weights = [weight[replica] for weight in self.layer_weights(index)]
                for weight in weights:
                    drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
                    weight.copy_((2 * drawn - 1) * bound)
                by_gate = [weight.unflatten(0, (len(self.cell.gates), -1)) for weight in weights]
                layer = Layer(self.name, self.cell.gates, self.cell.nonlinearity, sequence_length, *by_gate)
                init(layer, generator, **arguments)

    def forward(
        self, inputs: Tensor, state: Mapping[str, Tensor] | None = None, hold: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run all steps.

        Args:
            inputs: (R, B, T, D).
            state: the initial state by name, each (R, L, B, H); zeros when left out.
            hold: steps that leave every state but h as it is, (R, B, T) bool: such as c over padding. h moves on; it
                is among the outputs. Of one layer. To the bit; in the engine cpu to e^-87 a step, as it bounds exp.

        Returns:
            The top layer's h_t of every step, (R, B, T, H), and the final state by name, each (R, L, B, H).

        Raises:
            TypeError: when the inputs or the state are something else, such as a PackedSequence or a tuple.
            ValueError: when the inputs have another dtype than the weights, or too few or too many axes, when the
                state's names are not the cell's, or when steps cannot be held.
            RuntimeError: when sizes do not fit, there is no time step, the state has another dtype than the weights,
                or tensors are on different devices or not dense.
        """
        self._check(inputs)
        weights = [self.layer_weights(layer) for layer in range(self.cell.num_layers)]
        initial = self._initial(inputs, state)
        x = inputs.transpose(1, 2)
        if hold is not None and len(self.cell.states) > 1:
            x, weights[0] = self._held(x, weights[0], hold)
        if x.shape[-1] == 1:  # a pack of one takes a product with one column through gemv, with other last bits
            x, weight_ih = nn.functional.pad(x, (0, 1)), nn.functional.pad(weights[0].weight_ih, (0, 1))
            weights[0] = weights[0]._replace(weight_ih=weight_ih)
        engine = select.choose(self.engine, self.cell, weights[0].weight_hh.device, weights[0].weight_hh.dtype)
        options = {} if self.recompute is None else {"recompute": self.recompute}
        if options and not engine.__name__.endswith(".cpu"):
            raise ConfigError(f"recompute={self.recompute}: only engine=cpu has it, which does not run here")
        outputs, finals = engine.run(self.cell, x, weights, initial, self.recorder, self._pool, **options)
        named = {name: torch.stack([final[k] for final in finals], dim=1) for k, name in enumerate(self.cell.states)}
        return outputs.transpose(1, 2), named

    def _held(self, x: Tensor, weights: LayerWeights, hold: Tensor) -> tuple[Tensor, LayerWeights]:
        """One more input, 1 at the steps that are held, with constant weights to the gates that hold."""
        if not self.cell.hold or self.cell.num_layers != 1:
            what = f"cell={self.name} says nothing of hold" if not self.cell.hold else "expected one layer"
            raise ValueError(f"steps cannot be held: {what}")
        column = weights.weight_ih.new_zeros(len(self.cell.gates), self.cell.hidden_size)
        for gate, value in self.cell.hold.items():
            column[self.cell.gates.index(gate)] = value
        column = column.view(1, -1, 1).expand(self.replicas, -1, 1)
        flag = hold.transpose(1, 2).unsqueeze(-1).to(x.dtype)
        return torch.cat([x, flag], dim=-1), weights._replace(weight_ih=torch.cat([weights.weight_ih, column], dim=-1))

    def _check(self, inputs: Tensor) -> None:
        """Refuse what is no tensor (R, B, T, D) with T ≥ 1."""
        if not isinstance(inputs, Tensor) or inputs.is_nested:
            given = "nested tensor" if isinstance(inputs, Tensor) else type(inputs).__name__
            raise TypeError(
                f"the inputs are a {given}, expected a tensor (R, B, T, D); pad sequences of unequal length"
            )
        if inputs.dim() != 4 or inputs.shape[0] != self.replicas or inputs.shape[-1] != self.input_size:
            kind = ValueError if inputs.dim() != 4 else RuntimeError  # as torch.nn
            expected = f"({self.replicas}, B, T, {self.input_size})"
            raise kind(f"inputs have shape {tuple(inputs.shape)}, expected {expected}")
        if inputs.shape[2] == 0:
            raise RuntimeError("inputs have no time steps")

    def _initial(self, inputs: Tensor, state: Mapping[str, Tensor] | None) -> list[State]:
        B, H = inputs.shape[1], self.cell.hidden_size
        if state is None:
            zeros = inputs.new_zeros(self.replicas, B, H)
            return [tuple(zeros for _ in self.cell.states) for _ in range(self.cell.num_layers)]
        if not isinstance(state, Mapping):
            names = ", ".join(f"'{name}': …" for name in self.cell.states)
            kind = type(state).__name__
            raise TypeError(f"the state is a {kind}, expected a dictionary {{{names}}} of tensors (R, L, B, H)")
        if set(state) != set(self.cell.states):
            raise ValueError(f"the state has {sorted(state)}, expected {sorted(self.cell.states)}")
        for name, value in state.items():
            if value.shape != (self.replicas, self.cell.num_layers, B, H):
                expected = f"({self.replicas}, {self.cell.num_layers}, {B}, {H})"
                raise RuntimeError(f"the state's {name} has shape {tuple(value.shape)}, expected {expected}")
        return [tuple(state[name][:, layer] for name in self.cell.states) for layer in range(self.cell.num_layers)]

    def load_torch(self, replica: int, module: nn.RNNBase | nn.RNNCellBase) -> None:
        """Copy the weights of a torch.nn.RNN, LSTM or GRU, or of one of their cells, into one replica.

        Raises:
            ValueError: when its weights or its nonlinearity are not those of this network, or when it has an option
                that this network lacks: no biases, both directions, projections, or dropout while it trains.
        """
        drops = module.training and getattr(module, "num_layers", 1) > 1
        for option, covered in (("bias", True), ("bidirectional", False), ("proj_size", 0), ("dropout", 0)):
            value = getattr(module, option, covered)
            if value != covered and (option != "dropout" or drops):
                raise ValueError(f"the module has {option}={value}, and Recurrent covers {option}={covered} alone")
        own, given = dict(self.named_parameters()), module.state_dict()
        if isinstance(module, nn.RNNCellBase):
            given = {f"{name}_l0": value for name, value in given.items()}
        if set(own) != set(given):
            raise ValueError(f"the module has the weights {sorted(given)}, expected {sorted(own)}")
        for name, value in given.items():
            if own[name].shape[1:] != value.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(own[name].shape[1:])}")
        nonlinearity = getattr(module, "nonlinearity", self.cell.nonlinearity)
        if nonlinearity != self.cell.nonlinearity:
            raise ValueError(f"the module has nonlinearity {nonlinearity}, expected {self.cell.nonlinearity}")
        with torch.no_grad():
            for name, value in given.items():
                own[name][replica] = value

    def to_torch(self, replica: int) -> nn.RNNBase:
        """One replica as a torch.nn.RNN, LSTM or GRU with batch_first=True.

        Raises:
            ValueError: when torch.nn has no such cell.
        """
        if self.name not in _TORCH or self.cell.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"torch.nn has no {self.name} with nonlinearity {self.cell.nonlinearity}")
        extra = {"nonlinearity": self.cell.nonlinearity} if self.name == "rnn" else {}
        first = self.get_parameter("weight_ih_l0")
        module: nn.RNNBase = _TORCH[self.name](
            self.input_size,
            self.cell.hidden_size,
            self.cell.num_layers,
            batch_first=True,
            device=first.device,
            dtype=first.dtype,
            **extra,
        )
        module.load_state_dict({name: value[replica] for name, value in self.state_dict().items()})
        return module


def _build(name: str, arguments: dict[str, Any]) -> Cell:
    known = registry.signature("cell", name).parameters
    for key, value in arguments.items():
        if key not in known:
            raise ConfigError(f"cell.{key}={value}: unknown argument of {name}; {nearest(key, known)}")
        known[key].check(f"cell.{key}", value)
    cell: Cell = registry.load("cell", name)(**arguments)
    return cell
