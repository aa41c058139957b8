"""What RNNs are compared with: against hand-written computations, alone as in a pack, padding and future unseen."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from goldfish.config import registry
from goldfish.models.bag_of_words import BagOfWords
from goldfish.models.feedforward import Feedforward
from goldfish.models.parts.layers import Embedding
from goldfish.models.parts.sequence_model import Replicated
from goldfish.models.tcn import Tcn
from goldfish.models.tfidf import Tfidf
from goldfish.models.transformer import Transformer, positions
from goldfish.tasks.base import PAD, Batch, Task

R, B, T, V, CLASSES = 3, 4, 12, 9, 5
LENGTHS = torch.tensor([12, 5, 1, 8])


def toy(readout: str = "last", *, tokens: bool = True) -> Task:
    """A task in name only: what a model asks of one."""
    sizes = {"input_size": V, "output_size": CLASSES}
    return cast(Task, SimpleNamespace(readout=readout, tokens=tokens, kind="classification", **sizes))


MODELS: dict[str, Callable[..., nn.Module]] = {
    "feedforward": lambda task, replicas: Feedforward(task, replicas, window=4, hidden_size=6, embedding_size=3),
    "tcn": lambda task, replicas: Tcn(task, replicas, channels=4, levels=3, embedding_size=3),
    "transformer": lambda task, replicas: Transformer(task, replicas, model_size=8, heads=2, feedforward_size=16),
    "encoder": lambda task, replicas: Transformer(task, replicas, model_size=8, heads=2, causal=False),
}
STEPWISE = [name for name in registry.names("model") if not registry.signature("model", name).constants.get("FITTED")]


def build(name: str, readout: str = "last", *, tokens: bool = True, seeds: tuple[int, ...] = (0, 1, 2)) -> nn.Module:
    model = MODELS[name](toy(readout, tokens=tokens), len(seeds)).double()
    part: Any
    for replica, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for part in model.modules():
            if hasattr(part, "initialise"):
                part.initialise(replica, generator)
    return model


def words(replicas: int = R) -> tuple[Tensor, Tensor, Tensor]:
    """Words (R, B, T), the mask of all steps and that of the last ones."""
    drawn = torch.randint(4, V, (B, T), generator=torch.Generator().manual_seed(5))
    steps = torch.arange(T)
    inside = steps < LENGTHS.unsqueeze(1)
    last = steps == LENGTHS.unsqueeze(1) - 1
    filled = torch.where(inside, drawn, PAD)
    return tuple(value.expand(replicas, B, T) for value in (filled, inside, last))  # type: ignore[return-value]


def test_all_that_is_registered_is_tested() -> None:
    assert set(STEPWISE) == {"recurrent", *MODELS} - {"encoder"}


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("readout", ["last", "every"])
@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name: str, readout: str, tokens: bool) -> None:
    model = build(name, readout, tokens=tokens)
    inputs, inside, last = words()
    mask = last if readout == "last" else inside
    given = inputs if tokens else torch.nn.functional.one_hot(inputs, V).double()
    whole = model(given, mask)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(given[:, row : row + 1, :length], mask[:, row : row + 1, :length])
        together = whole[:, row : row + 1] if readout == "last" else whole[:, row : row + 1, :length]
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["feedforward", "tcn", "transformer"])
def test_a_changed_future_leaves_the_past_bit_identical(name: str) -> None:
    model = build(name, "every").float()
    inputs = torch.randint(4, V, (R, B, T), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(R, B, T, dtype=torch.bool)
    before = model(inputs, mask)
    for step in (3, 7, 11):
        changed = inputs.clone()
        changed[..., step:] = 4 + (changed[..., step:] - 3) % (V - 4)
        after = model(changed, mask)
        assert torch.equal(after[:, :, :step], before[:, :, :step])
        assert not torch.equal(after[:, :, step], before[:, :, step])


def test_an_encoder_sees_the_future() -> None:
    model = build("encoder", "every")
    inputs, inside, _ = words()
    changed = inputs.clone()
    changed[:, 0, -1] = 4 + (changed[:, 0, -1] - 3) % (V - 4)
    assert not torch.allclose(model(inputs, inside)[:, 0, 0], model(changed, inside)[:, 0, 0])


@pytest.mark.parametrize("name", MODELS)
def test_a_replica_alone_has_the_same_bits(name: str) -> None:
    pack, alone = build(name).float(), build(name, seeds=(1,)).float()
    found = []
    for model, replicas, pick in ((pack, R, slice(1, 2)), (alone, 1, slice(0, 1))):
        inputs, _, last = words(replicas)
        outputs = model(inputs, last)
        gradients = torch.autograd.grad(
            outputs.square().sum(), list(model.parameters()), materialize_grads=True, allow_unused=True
        )
        found.append([outputs[pick], *(gradient[pick] for gradient in gradients)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_initialising_leaves_torchs_random_numbers_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    one, other = build(name, seeds=(7,)), build(name, seeds=(7,))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    different = build(name, seeds=(8,))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), different.parameters(), strict=True))


def test_feedforward_by_hand() -> None:
    model: Any = build("feedforward", tokens=False, seeds=(0,))
    x = torch.randn(1, 2, 3, V, dtype=torch.float64)
    mask = torch.tensor([[[False, False, True], [False, True, False]]])
    weight, bias = model.network.get_parameter("hidden/weight")[0], model.network.get_parameter("hidden/bias")[0]
    zero = torch.zeros(V, dtype=torch.float64)
    seen = [torch.cat([x[0, 0, 2], x[0, 0, 1], x[0, 0, 0], zero]), torch.cat([x[0, 1, 1], x[0, 1, 0], zero, zero])]
    hidden = torch.tanh(torch.stack(seen) @ weight.T + bias)
    expected = hidden @ model.readout.weight[0].T + model.readout.bias[0]
    torch.testing.assert_close(model(x, mask)[0], expected, rtol=0, atol=1e-12)


def test_tcn_by_hand() -> None:
    """Every block as sums over what lies k·dilation steps back."""
    model: Any = build("tcn", "every", tokens=False, seeds=(0,))
    x = torch.randn(1, 1, 10, V, dtype=torch.float64)
    weights = {name.replace("/", "."): value[0] for name, value in model.network.named_parameters()}

    def convolve(signal: Tensor, name: str, dilation: int) -> Tensor:
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        found = []
        for t in range(signal.shape[0]):
            total = bias.clone()
            for tap in range(kernel.shape[2]):
                back = t - (kernel.shape[2] - 1 - tap) * dilation
                if back >= 0:
                    total = total + kernel[:, :, tap] @ signal[back]
            found.append(total)
        return torch.stack(found)

    y = x[0, 0]
    for index in range(3):
        inner = torch.relu(convolve(y, f"blocks.{index}.first", 2**index))
        inner = torch.relu(convolve(inner, f"blocks.{index}.second", 2**index))
        skip = convolve(y, f"blocks.{index}.skip", 1) if f"blocks.{index}.skip.weight" in weights else y
        y = torch.relu(inner + skip)
    expected = y @ model.readout.weight[0].T + model.readout.bias[0]
    torch.testing.assert_close(model(x, torch.ones(1, 1, 10, dtype=torch.bool))[0, 0], expected, rtol=0, atol=1e-12)


def test_positions_by_hand() -> None:
    found = positions(5, 6)
    for t in range(5):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert found[t, 2 * i].item() == pytest.approx(np.sin(angle), abs=1e-12)
            assert found[t, 2 * i + 1].item() == pytest.approx(np.cos(angle), abs=1e-12)


def test_replicated_runs_each_module_as_it_is() -> None:
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4)) for _ in range(2)]
    replicated = Replicated(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4)), 2)
    assert sorted(name for name, _ in replicated.named_parameters()) == ["0/bias", "0/weight", "2/bias", "2/weight"]
    with torch.no_grad():
        for replica, module in enumerate(made):
            for name, value in module.named_parameters():
                replicated.get_parameter(name.replace(".", "/"))[replica] = value
    x = torch.randn(2, 5, 3)
    expected = torch.stack([module(own) for module, own in zip(made, x, strict=True)])
    torch.testing.assert_close(replicated(x), expected, rtol=0, atol=0)


def test_embedding_is_torchs_and_keeps_padding_at_zero() -> None:
    embedding = Embedding(V, 3, 2)
    for replica in range(2):
        embedding.initialise(replica, torch.Generator().manual_seed(replica))
    inputs = words(2)[0]
    found = embedding(inputs)
    for replica in range(2):
        module = nn.Embedding.from_pretrained(embedding.weight[replica].detach(), padding_idx=PAD)
        assert torch.equal(found[replica], module(inputs[replica]))
    assert not found[inputs == PAD].any()
    (gradient,) = torch.autograd.grad(found.sum(), embedding.weight)
    assert not gradient[:, PAD].any()
    assert gradient[:, 4:].any()


@pytest.mark.parametrize(("model", "vectorizer"), [(BagOfWords, CountVectorizer), (Tfidf, TfidfVectorizer)])
def test_counts_equal_scikit_learns_on_text(model: type[BagOfWords], vectorizer: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randint(4, V, (60, T), generator=generator)
    lengths = torch.randint(1, T + 1, (60,), generator=generator)
    inputs = torch.where(torch.arange(T) < lengths.unsqueeze(1), inputs, PAD)
    targets = (inputs == 5).sum(1).clamp(max=2)
    batch = Batch(inputs, targets, torch.arange(T) == lengths.unsqueeze(1) - 1)
    fitted = model(toy(), c=0.7)
    fitted.fit(batch)
    texts = [" ".join(f"w{word}" for word in row if word != PAD) for row in inputs.tolist()]
    counts = vectorizer().fit_transform(texts)
    expected = LogisticRegression(C=0.7, max_iter=2000).fit(counts, targets.numpy()).predict_proba(counts)
    found = fitted.log_probabilities(batch)
    assert found.shape == (60, CLASSES)
    np.testing.assert_allclose(found.exp()[:, :3].numpy(), expected, atol=2e-4)
    assert (found[:, 3:] < -20).all()  # classes that never came
    assert fitted.parameters == 3 * V + 3


def test_vectors_are_summed_up_to_the_end() -> None:
    x = torch.randn(2, 3, V)
    mask = torch.tensor([[False, True, False], [False, False, True]])
    found = BagOfWords(toy(tokens=False)).counts(Batch(x, torch.zeros(2), mask)).toarray()
    np.testing.assert_allclose(found, torch.stack([x[0, :2].double().sum(0), x[1].double().sum(0)]).numpy())
