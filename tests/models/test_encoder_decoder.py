"""The encoder-decoder against hand-written loops over torch.nn, in float64; searches against exhaustive ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goldfish.models.parts.encoder_decoder import EncoderDecoder, before
from goldfish.models.parts.stack import Builder
from goldfish.probes.gradient_flow import gradient_flow, norms_by_lag
from goldfish.tasks.base import BEGIN, END, PAD

R, SOURCE, TARGET, E, H = 2, 9, 7, 3, 4
SOURCES = [[4, 5, 6, 7, 8], [5], [8, 4, 6]]
TARGETS = [[4, 5, END], [6, 4, 4, 5, END], [END]]
CELLS = ["rnn", "lstm", "gru"]


def build(cell: str, layers: int = 1, replicas: int = R, engine: str = "auto", **options: object) -> EncoderDecoder:
    torch.manual_seed(0)
    builder = Builder(cell, replicas, engine, {"hidden_size": H, "num_layers": layers})
    model = EncoderDecoder(builder, SOURCE, TARGET, E, **options).double()  # type: ignore[arg-type]
    for name in ("source.weight", "target.weight", "readout.weight", "readout.bias"):
        nn.init.normal_(model.get_parameter(name))
    return model


def padded(rows: list[list[int]], steps: int, replicas: int = R) -> Tensor:
    filled = torch.tensor([row + [PAD] * (steps - len(row)) for row in rows])
    return filled.expand(replicas, *filled.shape)


class ByHand:
    """One replica, one sentence at a time, step by step, over torch.nn."""

    def __init__(self, model: EncoderDecoder, replica: int) -> None:
        encoder: Any = model.encoder
        decoder: Any = model.decoder
        self.encoder = [network.to_torch(replica) for network in encoder]
        self.decoder = [network.to_torch(replica) for network in decoder]
        self.source, self.target = model.source.weight[replica], model.target.weight[replica]
        self.weight, self.bias = model.readout.weight[replica], model.readout.bias[replica]

    def start(self, words: list[int]) -> list[object]:
        x, states = self.source[words].unsqueeze(0), []
        for network in self.encoder:
            x, state = network(x)
            states.append(state)
        return states

    def step(self, word: int, states: list[object]) -> tuple[Tensor, list[object]]:
        x, after = self.target[word].view(1, 1, -1), []
        for network, state in zip(self.decoder, states, strict=True):
            x, state = network(x, state)
            after.append(state)
        return self.weight @ _kept(after[-1]).view(-1) + self.bias, after

    def logits(self, words: list[int], fed: list[int]) -> Tensor:
        states, found = self.start(words), []
        for word in fed:
            logits, states = self.step(word, states)
            found.append(logits)
        return torch.stack(found)

    def greedy(self, words: list[int], limit: int) -> list[int]:
        states, last = self.start(words), BEGIN
        found: list[int] = []
        while len(found) < limit and last != END:
            logits, states = self.step(last, states)
            logits[[PAD, BEGIN]] = -torch.inf
            last = int(logits.argmax())
            found.append(last)
        return found + [PAD] * (limit - len(found))


@pytest.mark.parametrize("engine", ["eager", "stepwise", "cpu"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_teacher_forced_loss_and_gradients_equal_a_loop_without_padding(cell: str, layers: int, engine: str) -> None:
    model = build(cell, layers, engine=engine)
    inputs, targets = padded(SOURCES, 6), padded(TARGETS, 5)
    logits = model(inputs, targets)
    found = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=PAD, reduction="sum")
    shared = ["source.weight", "target.weight", "readout.weight", "readout.bias"]
    recurrent = [name for name, _ in model.named_parameters() if name not in shared]
    through = [model.get_parameter(name) for name in shared + recurrent]
    gradients = dict(zip(shared + recurrent, torch.autograd.grad(found, through), strict=True))
    losses = []
    for replica in range(R):
        by_hand = ByHand(model, replica)
        parts = [
            _cross_entropy(by_hand.logits(words, [BEGIN, *wanted[:-1]]), wanted)
            for words, wanted in zip(SOURCES, TARGETS, strict=True)
        ]
        loss = torch.stack(parts).sum()
        weights = [weight for module in by_hand.encoder + by_hand.decoder for weight in module.parameters()]
        expected = torch.autograd.grad(loss, through[:4] + weights)
        for name, own, gradient in zip(shared + recurrent, gradients.values(), expected, strict=True):
            wanted_gradient = gradient[replica] if name in shared else gradient
            torch.testing.assert_close(own[replica], wanted_gradient, rtol=0, atol=1e-12, msg=name)
        losses.append(loss)
    torch.testing.assert_close(found, torch.stack(losses).sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("reverse_source", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing(cell: str, reverse_source: bool) -> None:
    model = build(cell, 2, reverse_source=reverse_source)
    inputs, targets = padded(SOURCES, 9), padded(TARGETS, 8)
    whole, found = model(inputs, targets), model.decode(inputs, 6, beam=2)
    for row, (words, wanted) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = model(padded([words], len(words)), padded([wanted], len(wanted)))
        torch.testing.assert_close(whole[:, row, : len(wanted)], alone[:, 0], rtol=0, atol=1e-12)
        assert torch.equal(found[:, row], model.decode(padded([words], len(words)), 6, beam=2)[:, 0])


def test_reversed_source_by_hand() -> None:
    model = build("gru", reverse_source=True)
    plain = build("gru")
    backwards = padded([row[::-1] for row in SOURCES], 6)
    targets = padded(TARGETS, 5)
    torch.testing.assert_close(model(padded(SOURCES, 6), targets), plain(backwards, targets), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_greedy_equals_a_loop(cell: str) -> None:
    model = build(cell, 2)
    found = model.decode(padded(SOURCES, 5), 6)
    for replica in range(R):
        by_hand = ByHand(model, replica)
        assert found[replica].tolist() == [by_hand.greedy(words, 6) for words in SOURCES]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_that_keeps_all_finds_the_best(alpha: float) -> None:
    model, limit = build("gru"), 3
    words = [word for word in range(TARGET) if word not in (PAD, BEGIN)]
    found = model.decode(padded(SOURCES, 5), limit, beam=TARGET**2, alpha=alpha)
    for replica, row in itertools.product(range(R), range(len(SOURCES))):
        by_hand, scores = ByHand(model, replica), {}
        for length in range(1, limit + 1):
            for chosen in itertools.product(words, repeat=length):
                if END in chosen[:-1] or (length < limit and chosen[-1] != END):
                    continue
                logits = by_hand.logits(SOURCES[row], [BEGIN, *chosen[:-1]])
                logits[:, [PAD, BEGIN]] = -torch.inf
                logs = logits.log_softmax(-1).detach()
                scores[chosen] = float(logs[range(length), chosen].sum()) / length**alpha
        best = max(scores, key=lambda chosen: scores[chosen])
        assert found[replica, row].tolist() == [*best, *[PAD] * (limit - len(best))]


FED = [[4, 5, 6, 4], [6, 4, 4, 5], [5, 5, 5, 5]]


def check_feeding(model: EncoderDecoder, found: Tensor, true: Callable[[int, int, int], bool]) -> set[bool]:
    """The logits are a loop's that is fed the true word where `true(replica, row, step)`, else its own last one.

    Returns whether the words it was fed were the true ones.
    """
    right = set()
    for replica, row in itertools.product(range(R), range(len(SOURCES))):
        by_hand = ByHand(model, replica)
        states, last = by_hand.start(SOURCES[row]), BEGIN
        for step, wanted in enumerate(FED[row]):
            logits, states = by_hand.step(last, states)
            torch.testing.assert_close(found[replica, row, step], logits, rtol=0, atol=1e-12)
            logits = logits.detach().clone()
            logits[[PAD, BEGIN]] = -torch.inf
            last = wanted if true(replica, row, step + 1) else int(logits.argmax())
            right.add(last == wanted)
    return right


def test_own_words_are_fed_as_often_as_is_asked() -> None:
    model = build("gru", teacher_forcing=0.0)
    inputs, targets = padded(SOURCES, 5), padded(FED, 4)
    forced = model(inputs, targets)
    model.generators = [torch.Generator().manual_seed(seed) for seed in range(R)]
    own = model(inputs, targets)
    check_feeding(model, own, lambda replica, row, step: False)
    assert not torch.allclose(own[:, :, 1:], forced[:, :, 1:])
    model.teacher_forcing = 1.0
    assert torch.equal(model(inputs, targets), forced)


def test_each_word_is_drawn_true_or_own() -> None:
    """Each replica's own generator decides, whatever stands beside it in the pack."""
    model = build("gru", teacher_forcing=0.5)
    model.generators = [torch.Generator().manual_seed(seed) for seed in range(R)]
    found = model(padded(SOURCES, 5), padded(FED, 4))
    draws = [torch.rand(len(SOURCES), 4, generator=torch.Generator().manual_seed(seed)) for seed in range(R)]
    right = check_feeding(model, found, lambda replica, row, step: step < 4 and bool(draws[replica][row, step] < 0.5))
    assert right == {True, False}


def test_words_before() -> None:
    assert before(torch.tensor([[4, 5, END]])).tolist() == [[BEGIN, 4, 5]]


@pytest.mark.parametrize("cell", CELLS)
def test_a_replica_alone_has_the_same_bits(cell: str) -> None:
    pack = build(cell, 1, replicas=3).float()
    alone = build(cell, 1, replicas=1).float()
    with torch.no_grad():
        for own, whole in zip(alone.parameters(), pack.parameters(), strict=True):
            own.copy_(whole[1:2])
    found = []
    for model, replicas in ((pack, 3), (alone, 1)):
        logits = model(padded(SOURCES, 6, replicas), padded(TARGETS, 5, replicas))
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        pick = slice(1, 2) if replicas == 3 else slice(0, 1)
        decoded = model.decode(padded(SOURCES, 6, replicas), 5, beam=3)
        found.append([logits[pick], decoded[pick], *(gradient[pick] for gradient in gradients)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("engine", ["eager", "stepwise", "cpu"])
def test_gradient_norms_run_on_through_the_memory_vector(cell: str, engine: str) -> None:
    """Against autograd, sentence by sentence, from the loss at the last word back to the first word of the source."""
    model = build(cell, engine=engine)
    inputs, targets = padded(SOURCES, 6), padded(TARGETS, 5)
    with gradient_flow(model.measured) as flow, gradient_flow(model.encoder_measured) as source:
        logits = model(inputs, targets)
        last = (targets != PAD).sum(-1) - 1
        index = last[..., None, None].expand(R, len(SOURCES), 1, TARGET)
        logits.gather(2, index).square().sum().backward()
    found = norms_by_lag(source.log2_norm["h"][:, -1], flow.log2_norm["h"][:, -1], inputs[0] != PAD, targets[0] != PAD)
    for replica in range(R):
        by_hand = ByHand(model, replica)
        for row, (words, wanted) in enumerate(zip(SOURCES, TARGETS, strict=True)):
            states, hidden = None, []
            for word in words:
                x = by_hand.source[word].view(1, 1, -1)
                _, states = by_hand.encoder[0](x, states)
                hidden.append(_kept(states))
            for word in [BEGIN, *wanted[:-1]]:
                logits, (states,) = by_hand.step(word, [states])
                hidden.append(_kept(states))
            gradients = torch.autograd.grad(logits.square().sum(), hidden)
            norms = [math.log2(float(gradient.norm())) for gradient in reversed(gradients)]
            torch.testing.assert_close(
                found[replica, row, : len(norms)], torch.tensor(norms, dtype=torch.float64), rtol=0, atol=1e-9
            )
            assert found[replica, row, len(norms) :].isnan().all()


def _cross_entropy(logits: Tensor, wanted: list[int]) -> Tensor:
    return F.cross_entropy(logits, torch.tensor(wanted), reduction="sum")


def _kept(states: object) -> Tensor:
    h = states[0] if isinstance(states, tuple) else states
    assert isinstance(h, Tensor)
    return h
