"""An encoder-decoder: it reads a sequence into a vector and decodes another one (Cho et al., Sutskever et al. 2014).

The decoder sees of the source only what that vector, the encoder's last state, holds. In training it is fed the true
words (teacher forcing) or its own (scheduled sampling), and in use its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from goldfish.models.parts.layers import Dropout, Embedding, Readout
from goldfish.models.parts.stack import Builder, reversal
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import BEGIN, END, PAD, last_step

State = dict[str, Tensor]  # of one layer: name → (R, B, H)


class EncoderDecoder(nn.Module):
    """(R, B, S) words in, (R, B, T) words out.

    Args:
        build: makes the networks; encoder and decoder have its number of layers each, and each layer of the decoder
            begins with the last state of the encoder's.
        source_size: entries of the source's vocabulary.
        target_size: entries of the target's.
        embedding_size: of words, on both sides.
        dropout: its probability, on embedded words, between layers and before the readout.
        teacher_forcing: the share of steps at which training feeds the true word before, not the network's own
            (Bengio et al. 2015).
        reverse_source: whether the source is read from its end.

    Attributes:
        generators: R CPU generators while training, for the choice between true and own words; else none.

    Raises:
        ValueError: for a cell whose further states cannot be held over padding (Cell.hold).
    """

    def __init__(
        self,
        build: Builder,
        source_size: int,
        target_size: int,
        embedding_size: int,
        *,
        dropout: float = 0.0,
        teacher_forcing: float = 1.0,
        reverse_source: bool = False,
    ) -> None:
        super().__init__()
        self.teacher_forcing, self.reverse_source = teacher_forcing, reverse_source
        self.generators: Sequence[torch.Generator] = ()
        self.source = Embedding(source_size, embedding_size, build.replicas)
        self.target = Embedding(target_size, embedding_size, build.replicas)
        hidden, layers = build.arguments["hidden_size"], build.arguments["num_layers"]
        sizes = [embedding_size, *[hidden] * (layers - 1)]
        self.encoder = nn.ModuleList([build(size, 1) for size in sizes])
        self.decoder = nn.ModuleList([build(size, 1) for size in sizes])
        self.dropout = Dropout(dropout)
        self.readout = Readout(hidden, target_size, build.replicas)

    @property
    def draws(self) -> bool:
        """Whether it needs random numbers of its own, beside those of its dropout."""
        return self.teacher_forcing < 1

    @property
    def measured(self) -> Recurrent:
        """The decoder's top layer, whose gradient flow is reported."""
        return _last(self.decoder)

    @property
    def encoder_measured(self) -> Recurrent:
        """The encoder's top layer, through which gradient flow is followed on."""
        return _last(self.encoder)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Logits of every target word, given the true ones before it: (R, B, S), (R, B, T) → (R, B, T, O)."""
        states = self.encode(inputs)
        fed = before(targets)
        if self.generators and self.draws:
            fed = self._mixed(states, fed)
        return self._decode(fed, states)[0]

    def encode(self, inputs: Tensor) -> list[State]:
        """The state of each layer after each source's last word, wherever the padding ends."""
        inside = inputs != PAD
        words = inputs.gather(-1, reversal(inside)) if self.reverse_source else inputs
        x, last = self.dropout(self.source(words)), last_step(inside)
        held = torch.arange(inputs.shape[-1], device=inputs.device) > last.unsqueeze(-1)
        states = []
        for index, network in enumerate(self.encoder):
            outputs, final = network(self.dropout(x) if index else x, hold=held)
            at = last[..., None, None].expand(*last.shape, 1, outputs.shape[-1])
            # h of the last word itself; a gate has kept what else there is
            states.append(
                {name: value[:, 0] for name, value in final.items()} | {"h": outputs.gather(2, at).squeeze(2)}
            )
            x = outputs
        return states

    def _decode(self, fed: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Logits (R, B, T, O) after each of the words that are fed (R, B, T), and the states after the last one."""
        x, finals = self.dropout(self.target(fed)), []
        for index, (network, state) in enumerate(zip(self.decoder, states, strict=True)):
            given = {name: value.unsqueeze(1) for name, value in state.items()}
            x, final = network(self.dropout(x) if index else x, given)
            finals.append({name: value[:, 0] for name, value in final.items()})
        R, B, T, H = x.shape
        return self.readout(self.dropout(x).reshape(R, B * T, H)).view(R, B, T, -1), finals

    @torch.no_grad()
    def _mixed(self, states: list[State], fed: Tensor) -> Tensor:
        """Words to feed: each true one is kept with the probability of teacher forcing, else the network's own stands.

        Its own word is an argmax, through which no gradient flows: fed once more, with gradient, these words give
        exactly the gradient of the loop.
        """
        drawn = [torch.rand(fed.shape[1:], generator=own) for own in self.generators]
        true = torch.stack(drawn).to(fed.device) < self.teacher_forcing
        noise, self.dropout.generators = self.dropout.generators, ()
        chosen = [fed[..., 0]]
        for step in range(1, fed.shape[-1]):
            logits, states = self._decode(chosen[-1].unsqueeze(-1), states)
            chosen.append(torch.where(true[..., step], fed[..., step], _allowed(logits[:, :, 0]).argmax(-1)))
        self.dropout.generators = noise
        return torch.stack(chosen, dim=-1)

    @torch.no_grad()
    def decode(self, inputs: Tensor, limit: int, *, beam: int = 1, alpha: float = 1.0) -> Tensor:
        """The likeliest translation that the search finds: (R, B, S) → (R, B, limit), END and then PAD at its end.

        Args:
            inputs: source words.
            limit: words of a translation at most, END included.
            beam: translations that are kept at each step; 1 is greedy.
            alpha: the sum of log-probabilities is divided by the number of words to this power (Wu et al. 2016 have a
                shifted form of it); it counts where translations of different length are compared.
        """
        states = self.encode(inputs)
        (R, B), K = inputs.shape[:2], beam
        states = [{name: value.repeat_interleave(K, dim=1) for name, value in state.items()} for state in states]
        scores = torch.full((R, B, K), -torch.inf, device=inputs.device, dtype=self.readout.weight.dtype)
        scores[..., 0] = 0  # all begin alike
        words = torch.full((R, B, K, 0), PAD, device=inputs.device)
        last = torch.full((R, B, K), BEGIN, device=inputs.device)
        ended = torch.zeros(R, B, K, dtype=torch.bool, device=inputs.device)
        for _ in range(limit):
            logits, states = self._decode(last.view(R, B * K, 1), states)
            given = _allowed(logits[:, :, 0]).log_softmax(-1).view(R, B, K, -1)
            given = torch.where(ended.unsqueeze(-1), _only_pad(given), given)
            size = given.shape[-1]
            scores, best = (scores.unsqueeze(-1) + given).flatten(2).topk(K, dim=-1)
            origin, last = best // size, best % size
            words = torch.cat([words.gather(2, origin.unsqueeze(-1).expand_as(words)), last.unsqueeze(-1)], dim=-1)
            ended = ended.gather(2, origin) | (last == END)
            states = _reordered(states, origin)
            if bool(ended.all()):
                break
        lengths = (words != PAD).sum(-1).clamp(min=1)
        best = (scores / lengths**alpha).argmax(-1)
        likeliest = words.gather(2, best[..., None, None].expand(R, B, 1, words.shape[-1])).squeeze(2)
        return nn.functional.pad(likeliest, (0, limit - likeliest.shape[-1]), value=PAD)


def before(targets: Tensor) -> Tensor:
    """The word before each target word, BEGIN first: (…, T) → (…, T)."""
    return torch.cat([torch.full_like(targets[..., :1], BEGIN), targets[..., :-1]], dim=-1)


def _last(networks: nn.ModuleList) -> Recurrent:
    network = networks[-1]
    assert isinstance(network, Recurrent)
    return network


def _allowed(logits: Tensor) -> Tensor:
    """The logits without those of PAD and BEGIN, which are never written."""
    logits = logits.clone()
    logits[..., [PAD, BEGIN]] = -torch.inf
    return logits


def _only_pad(logs: Tensor) -> Tensor:
    """After END comes PAD, at no cost."""
    certain = torch.full_like(logs, -torch.inf)
    certain[..., PAD] = 0
    return certain


def _reordered(states: list[State], origin: Tensor) -> list[State]:
    """The states (R, B·K, H) of the translations that were kept, origin (R, B, K)."""
    R, B, K = origin.shape
    rows = (origin + K * torch.arange(B, device=origin.device).view(1, B, 1)).view(R, B * K, 1)
    return [{name: value.gather(1, rows.expand_as(value)) for name, value in state.items()} for state in states]
