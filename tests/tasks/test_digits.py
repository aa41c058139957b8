from __future__ import annotations

import numpy as np
import pytest
import torch

from goldfish.tasks.digits import Digits

SPLITS = ["train", "validation", "test"]


def images(split: str, **arguments) -> torch.Tensor:
    task = Digits(**arguments)
    return task.examples(split, torch.arange(task.size(split)), task.length).inputs


def test_splits_are_all_of_scikit_learns_digits_each_once():
    from sklearn.datasets import load_digits

    bundled = load_digits()
    expected = sorted((tuple(pixels), label) for pixels, label in zip(bundled.data, bundled.target, strict=True))
    found = []
    for split in SPLITS:
        task = Digits()
        batch = task.examples(split, torch.arange(task.size(split)), 64)
        pixels = (batch.inputs[..., 0] * 16).double().tolist()
        found += [(tuple(row), label) for row, label in zip(pixels, batch.targets.tolist(), strict=True)]
    assert sorted(found) == expected


def test_splits_have_the_documented_sizes_and_are_stratified():
    task = Digits()
    assert [task.size(split) for split in SPLITS] == [1087, 355, 355]
    counts = [
        task.examples(split, torch.arange(task.size(split)), 64).targets.bincount(minlength=10) for split in SPLITS
    ]
    total = sum(counts)
    assert isinstance(total, torch.Tensor)
    assert torch.equal(counts[1], total // 5)
    assert torch.equal(counts[2], total // 5)


def test_splits_are_shuffled_by_the_documented_permutation():
    from sklearn.datasets import load_digits

    bundled = load_digits()
    order = np.random.RandomState(1797).permutation(1797)
    first = [index for index in order if bundled.target[index] == 3][:2]  # test images come first in each class
    test = Digits().evaluation("test", 64, 355)
    threes = test.inputs[test.targets == 3][:2, :, 0] * 16
    assert threes.double().tolist() == bundled.data[first].tolist()
    assert len(test.targets[:40].unique()) == 10


@pytest.mark.parametrize("length", [64, 65, 100])
def test_pixels_then_blanks(length):
    batch = Digits(length=length).evaluation("test", length, 20)
    assert batch.lag is not None
    for inputs, lag in zip(batch.inputs.tolist(), batch.lag.tolist(), strict=True):
        pixels, blanks = inputs[:64], inputs[64:]
        assert all(0 <= value <= 1 and flag == 0 for value, flag in pixels)
        assert blanks == [[0.0, 1.0]] * (length - 64)
        assert lag == len(blanks)
    assert batch.inputs[..., 0].max() == 1


def test_permuted_is_one_fixed_permutation_of_the_pixels():
    order = np.random.RandomState(92916).permutation(64)
    plain, permuted = images("test"), images("test", order="permuted")
    assert torch.equal(permuted[..., 0], plain[:, order, 0])
    assert not torch.equal(permuted, plain)


def test_a_draw_repeats_no_image_before_all_were_drawn(seeded):
    task = Digits()
    size = task.size("validation")
    batch = task.sample(2 * size + 3, 64, seeded, "validation")
    everything = sorted(map(tuple, images("validation")[..., 0].tolist()))
    for start in (0, size):
        assert sorted(map(tuple, batch.inputs[start : start + size, :, 0].tolist())) == everything


def test_evaluation_takes_the_first_images_and_no_more_than_there_are():
    task = Digits()
    assert torch.equal(task.evaluation("validation", 64, 10).inputs, images("validation")[:10])
    assert torch.equal(task.evaluation("probe", 64, 10).inputs, images("validation")[:10])
    assert len(task.evaluation("test", 64, 10_000).inputs) == 355
