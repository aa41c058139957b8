"""One layer of one replica as an initialisation sees it, its weights split by gate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Layer:
    """One layer's weights as views by gate; writing into them initialises the layer.

    An initialisation finds every weight drawn as PyTorch draws it, U(±1/√H), and replaces what its paper names.

    Attributes:
        cell: the cell's name, "rnn", "lstm", "gru".
        gates: the gates' names in torch's order, ("h",), ("i", "f", "g", "o"), ("r", "z", "n").
        nonlinearity: of the vanilla RNN, "tanh", "relu", "sigmoid" or "identity"; "tanh" for gated cells.
        sequence_length: T, the number of time steps that the run trains on; None where nobody trains.
        weight_ih: (G, H, D).
        weight_hh: (G, H, H); h_t = φ(weight_hh @ h_{t-1} + …).
        bias_ih: (G, H).
        bias_hh: (G, H).
    """

    cell: str
    gates: tuple[str, ...]
    nonlinearity: str
    sequence_length: int | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.weight_hh.shape[-1]

    def set_bias(self, gate: str, value: float | Tensor) -> None:
        """Set the total bias of one gate: torch adds two, so all of it goes to bias_ih and 0 to bias_hh."""
        index = self.gates.index(gate)
        self.bias_ih[index] = value
        self.bias_hh[index] = 0.0

    def set_memory(self, bias: Tensor) -> None:
        """Set the bias of the gate that keeps the old state, (H,): f of the LSTM with i = -f, z of the GRU."""
        self.set_bias("z" if "z" in self.gates else "f", bias)
        if "i" in self.gates:
            self.set_bias("i", -bias)
