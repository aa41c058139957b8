"""A replica's numbers do not depend on its pack: alone, in 2, in 16, in another order, the same bits on CPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests.engines.reference import Case, Tensors, each_case

R, T = 16, 19


class Pool:
    """Sixteen replicas' weights, data and cotangents, of which packs are drawn."""

    def __init__(self, case: Case, shape: tuple[int, int, int, int]) -> None:
        self.case = case
        self.H, self.B, self.L, self.D = shape
        torch.manual_seed(2)
        whole = case.build(self.D, self.H, num_layers=self.L, replicas=R)
        self.weights = {name: value.detach().clone() for name, value in whole.named_parameters()}
        self.inputs = torch.randn(R, self.B, T, self.D)
        self.on_outputs = torch.randn(R, self.B, T, self.H)
        self.state = {name: torch.randn(R, self.L, self.B, self.H) for name in whole.cell.states}

    def run(self, picks: Sequence[int], learn: bool = True) -> Tensors:
        """Outputs, final states and, after a backward pass, every gradient of a pack of the replicas in `picks`."""
        pack = self.case.build(self.D, self.H, num_layers=self.L, replicas=len(picks))
        pack.load_state_dict({name: value[list(picks)] for name, value in self.weights.items()})
        inputs = self.inputs[list(picks)].requires_grad_(learn)
        state = {name: value[list(picks)].requires_grad_(learn) for name, value in self.state.items()}
        with torch.set_grad_enabled(learn):
            outputs, final = pack(inputs, state)
        found = {"outputs": outputs.detach()} | {f"final {name}": value.detach() for name, value in final.items()}
        if learn:
            loss = (outputs * self.on_outputs[list(picks)]).sum()
            torch.stack([loss, *(value.square().sum() for value in final.values())]).sum().backward()
            leaves: Tensors = {"inputs": inputs, **state, **dict(pack.named_parameters())}
            found |= {f"gradient of {name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
            assert len(found) == 1 + len(final) + len(leaves)
        return found


def _differing(pool: Pool, whole: Tensors, picks: Sequence[int], learn: bool = True) -> set[str]:
    """The names of what is not the same bits in the pack of `picks` as in the whole."""
    found = pool.run(picks, learn)
    return {name for name, value in found.items() if not torch.equal(value, whole[name][list(picks)])}


@pytest.mark.parametrize(
    "shape", [(24, 5, 1, 3), (24, 7, 2, 1), (33, 5, 2, 3), (33, 7, 1, 1), (33, 32, 1, 10)], ids=str
)
@each_case
def test_packs(case: Case, shape: tuple[int, int, int, int]) -> None:
    """shape: H, B, L, D."""
    pool = Pool(case, shape)
    everyone = list(range(R))
    whole = pool.run(everyone)
    assert not _differing(pool, whole, everyone[::-1])
    for r in (0, 1, 6, 15):
        assert not _differing(pool, whole, [r])
        assert not _differing(pool, whole, [(r + 5) % R, r])
        assert not _differing(pool, whole, [r], learn=False)
    assert not _differing(pool, whole, everyone, learn=False)


def test_replicas_never_touch() -> None:
    """A replica that turns to NaN leaves the others' bits alone."""
    for engine in ("eager", "stepwise", "cpu"):
        pool = Pool(Case("lstm", None, engine), (24, 5, 2, 3))
        whole = pool.run(range(R))
        pool.inputs[3] = torch.nan
        broken = pool.run(range(R))
        others = [r for r in range(R) if r != 3]
        for name, value in broken.items():
            assert torch.equal(value[others], whole[name][others]), name
            assert value[3].isnan().any(), name


def test_a_pack_is_not_a_copy() -> None:
    """The replicas of the pool differ, so equal bits mean something."""
    whole = Pool(Case("gru", None, "stepwise"), (24, 5, 1, 3)).run(range(R))
    for value in whole.values():
        assert not torch.equal(value[0], value[1])
