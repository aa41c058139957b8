"""What holds for every registered initialisation, on every cell it suits."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from goldfish.config import registry
from goldfish.errors import ConfigError
from goldfish.recurrent import Recurrent

CELLS = registry.names("cell")
PUBLISHED = {
    *("pytorch", "xavier", "kaiming", "orthogonal", "identity", "gaussian", "critical", "sparse", "shift"),
    *("positive_definite", "rotation", "unit_forget", "chrono", "chain", "feedback_chain", "uniform_gate", "power_law"),
}
FIELDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def suits(init, cell):
    return cell in registry.signature("init", init).constants.get("CELLS", CELLS)


SUITABLE = [(init, cell) for init in registry.names("init") for cell in CELLS if suits(init, cell)]
UNSUITABLE = [(init, cell) for init in registry.names("init") for cell in CELLS if not suits(init, cell)]
every = pytest.mark.parametrize(("init", "cell"), SUITABLE)


def initialised(init, cell, seed=0, dtype=torch.float32, **arguments):
    recurrent = Recurrent(cell, 3, arguments.pop("hidden_size", 24), num_layers=2, replicas=2, dtype=dtype)
    source = torch.Generator().manual_seed(seed)
    recurrent.initialise(1, registry.load("init", init), source, 50, **arguments)
    return {name: value[1].detach().clone() for name, value in recurrent.named_parameters()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_every_published_init_is_registered():
    assert set(registry.names("init")) >= PUBLISHED


@every
@pytest.mark.parametrize("hidden_size", [1, 2, 24, 33])
def test_weights_are_finite_and_keep_their_shapes(init, cell, hidden_size):
    weights = initialised(init, cell, hidden_size=hidden_size)
    shapes = {name: value.shape[1:] for name, value in Recurrent(cell, 3, hidden_size, num_layers=2).named_parameters()}
    assert {name: value.shape for name, value in weights.items()} == shapes
    assert all(value.isfinite().all() for value in weights.values())


@every
def test_the_same_seed_gives_the_same_bits(init, cell):
    assert equal(initialised(init, cell), initialised(init, cell))


@every
def test_another_seed_gives_other_weights(init, cell, make_layer, generator):
    layers, sources = [make_layer(cell) for _ in range(2)], [generator(seed) for seed in range(2)]
    for layer, source in zip(layers, sources, strict=True):
        registry.load("init", init)(layer, source)
    drawn = [[getattr(layer, name).nan_to_num(7.0) for name in FIELDS] for layer in layers]
    same = all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    assert same == torch.equal(sources[0].get_state(), generator(0).get_state())
    assert same == (init in {"shift", "unit_forget", "chain", "feedback_chain"}) or init not in PUBLISHED


@every
def test_other_random_streams_do_not_matter(init, cell):
    found = []
    with torch.random.fork_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(initialised(init, cell))
    assert equal(*found)


@every
def test_float32_is_float64_rounded(init, cell):
    single, double = initialised(init, cell), initialised(init, cell, dtype=torch.float64)
    assert equal(single, {name: value.float() for name, value in double.items()})


def test_float64_weights_are_drawn_in_float64():
    double = initialised("orthogonal", "rnn", dtype=torch.float64)
    assert all(not torch.equal(value.float().double(), value) for value in double.values())


@every
def test_layers_and_gates_get_draws_of_their_own(init, cell):
    blocks, others = (
        torch.cat([weights[f"weight_hh_l{layer}"].unflatten(0, (-1, 24)) for layer in range(2)])
        for weights in (initialised(init, cell), initialised(init, cell, seed=1))
    )
    if not torch.equal(blocks, others):  # else W_hh is not random
        assert len(blocks.flatten(1).unique(dim=0)) == len(blocks)


@every
def test_the_other_replica_is_left_alone(init, cell):
    recurrent = Recurrent(cell, 3, 24, replicas=2)
    before = {name: value[0].detach().clone() for name, value in recurrent.named_parameters()}
    recurrent.initialise(1, registry.load("init", init), torch.Generator().manual_seed(0), 50)
    assert equal(before, {name: value[0] for name, value in recurrent.named_parameters()})


@pytest.mark.parametrize("init", ["orthogonal", "positive_definite", "sparse", "critical"])
def test_bits_do_not_depend_on_the_number_of_threads(init, make_layer, generator):
    """At H = 128 LAPACK's last bits do, unless it runs on one thread."""
    function, before = registry.load("init", init), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            layer = make_layer("rnn", 128)
            function(layer, generator(0))
            assert torch.get_num_threads() == threads
            found.append(layer.weight_hh)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(("init", "cell"), UNSUITABLE)
def test_an_unsuitable_cell_is_refused_by_name(init, cell, make_layer, generator):
    with pytest.raises(ConfigError, match=f"init={init}: does not suit cell={cell}, only"):
        registry.load("init", init)(make_layer(cell), generator(0))


def test_unsuitable_pairs_are_those_of_gates_and_mean_field():
    published = {(init, cell) for init, cell in UNSUITABLE if init in PUBLISHED and cell in ("rnn", "lstm", "gru")}
    of_gates = {(init, "rnn") for init in ("chrono", "unit_forget", "uniform_gate", "power_law")}
    assert published == {*of_gates, ("critical", "lstm"), ("critical", "gru")}


def test_signatures_are_read_without_importing_torch():
    code = (
        "import sys; from goldfish.config import registry;"
        "[registry.signature('init', name) for name in registry.names('init')];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("init", registry.names("init"))
def test_defaults_in_the_signature_are_those_of_the_function(init):
    function = registry.load("init", init)
    declared = {name: item.default for name, item in registry.signature("init", init).parameters.items()}
    assert declared == (function.__kwdefaults__ or {})
    for name, item in registry.signature("init", init).parameters.items():
        assert item.check(f"init.{name}", item.default) == item.default
