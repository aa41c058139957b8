from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from goldfish.data import sources as data
from goldfish.errors import ConfigError
from goldfish.tasks.mnist import Mnist

# sha256 of the decompressed t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, as published with the set
TEST_IMAGES = "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
TEST_LABELS = "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"


def test_the_images_are_those_of_the_original_files(mnist_folder: Path):
    found = data.look({"name": "mnist", "data": str(mnist_folder)})
    assert found is not None
    pixels = data.grey_images(found, "test", "image", 28)
    assert pixels.shape == (10_000, 28, 28)
    header = b"".join(value.to_bytes(4, "big") for value in (2051, 10_000, 28, 28))
    assert hashlib.sha256(header + pixels.tobytes()).hexdigest() == TEST_IMAGES
    header = b"".join(value.to_bytes(4, "big") for value in (2049, 10_000))
    labels = found.read("test", "label")[0].to_pylist()
    assert hashlib.sha256(header + bytes(labels)).hexdigest() == TEST_LABELS


def test_splits_have_the_documented_sizes_and_order(mnist_folder: Path):
    task = Mnist(data=str(mnist_folder))
    assert [task.size(split) for split in ("train", "validation", "test")] == [55_000, 5_000, 10_000]
    found = data.look({"name": "mnist", "data": str(mnist_folder)})
    assert found is not None
    first = int(np.random.RandomState(60000).permutation(10_000)[0])
    image = data.grey_images(found, "test", "image", 28)[first].astype(np.float32).reshape(784, 1) / 255
    batch = task.evaluation("test", 784, 1)
    assert torch.equal(batch.inputs[0], torch.from_numpy(image))
    assert batch.targets[0] == found.read("test", "label")[0][first].as_py()


def test_training_and_validation_images_are_different_ones(mnist_folder: Path):
    task = Mnist(length=28, order="rows", data=str(mnist_folder))
    held_out = {row.tobytes() for row in task.evaluation("validation", 28, 5000).inputs.numpy()}
    train = task.examples("train", torch.arange(55_000), 28).inputs.numpy()
    assert len(held_out) == 5000
    assert not held_out & {row.tobytes() for row in train}


def test_permuted_is_the_published_permutation(mnist_folder: Path):
    order = np.random.RandomState(92916).permutation(784)
    assert sorted(order) == list(range(784))
    plain = Mnist(data=str(mnist_folder)).evaluation("test", 784, 20).inputs
    permuted = Mnist(order="permuted", data=str(mnist_folder)).evaluation("test", 784, 20).inputs
    for step, pixel in enumerate(order):
        assert torch.equal(permuted[:, step], plain[:, pixel])


def test_a_row_is_28_pixels(mnist_folder: Path):
    plain = Mnist(data=str(mnist_folder)).evaluation("test", 784, 20).inputs
    rows = Mnist(length=28, order="rows", data=str(mnist_folder)).evaluation("test", 28, 20).inputs
    assert rows.shape == (20, 28, 28)
    assert torch.equal(rows.reshape(20, 784, 1), plain)


def test_only_the_trained_length_is_evaluated(mnist_folder: Path):
    assert Mnist(data=str(mnist_folder)).lengths() == [784]
    assert Mnist(length=28, order="rows", data=str(mnist_folder)).lengths() == [28]


@pytest.mark.parametrize(("order", "length"), [("sequential", 28), ("permuted", 783), ("rows", 784)])
def test_a_length_that_the_order_does_not_have_is_refused(order, length):
    with pytest.raises(ConfigError, match=rf"task\.length={length}: task\.order={order} has \d+ steps; expected \d+"):
        Mnist(length=length, order=order)
