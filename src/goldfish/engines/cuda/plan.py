"""The layout of a layer on a GPU: slices, threads, tiles, and where W_hh is kept. Only `slices` affects the bits.

A block takes a tile of 1, 2, 4 or 8 rows of one replica through the whole sequence. Its product with W_hh is cut into
slices over k; a thread owns four rows of one slice. W_hh stays in registers as far as it fits, then in shared memory.
What one multiprocessor cannot keep is dealt, unit by unit, to the blocks of a cluster, where the GPU has clusters;
where it has none, the rest is read from L2 in every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from goldfish.cells.base import HandDerivedCell
from goldfish.engines import compiled

TILES = (1, 2, 4, 8)
THREADS = 512  # of one multiprocessor: 128 registers each
REGISTERS = 64  # of a thread, that hold weights
LARGEST = 2**20  # bytes of one replica's W_hh: reading more from L2 in every step is not worth it
CLUSTERS = (1, 2, 4, 8)  # blocks; 8 is what every GPU with clusters takes
CLUSTERED = 192  # units from which on a cluster pays: below, little is left to be read from L2
_WARP = 32


@dataclass(frozen=True)
class Multiprocessor:
    """The resources of a GPU's multiprocessors.

    Attributes:
        capability: its compute capability.
        count: multiprocessors.
        shared_memory: bytes that a block may take.
        cluster: blocks of the largest cluster; 1 where it has none.
    """

    capability: tuple[int, int]
    count: int
    shared_memory: int
    cluster: int = 1


@dataclass(frozen=True)
class Pass:
    """One direction's layout, for a product of (N, K) with K numbers."""

    slices: int
    threads: int
    in_registers: int  # quadruples of k that a thread keeps, for each of its four rows
    in_shared: int
    from_memory: int
    shared_memory: int  # bytes of a block

    @property
    def in_registers_alone(self) -> bool:
        """Whether all weights stay in registers."""
        return self.in_shared == self.from_memory == 0

    @property
    def blocks(self) -> int:
        """Blocks that a multiprocessor is to hold at once."""
        return max(1, THREADS // self.threads)


@dataclass(frozen=True)
class Plan:
    """Both directions' layout of a layer, and all that its kernels are compiled with."""

    cell: str
    nonlinearity: int
    H: int
    double: bool
    rows: int
    forward: Pass
    backward: Pass
    cluster: int  # blocks that share a tile
    own: int  # units of each, the last one's may be fewer

    def macros(self) -> tuple[tuple[str, int], ...]:
        """The constants of the kernels' source."""
        macros = {"DOUBLE": int(self.double), "H": self.H, "ROWS": self.rows, "NONLINEARITY": self.nonlinearity}
        macros |= {"CLUSTER": self.cluster, "OWN": self.own}
        for name, own in (("FORWARD", self.forward), ("BACKWARD", self.backward)):
            macros |= {
                f"{name}_SLICES": own.slices,
                f"{name}_THREADS": own.threads,
                f"{name}_REGISTERS": own.in_registers,
                f"{name}_SHARED": own.in_shared,
                f"{name}_BLOCKS": own.blocks,
                f"{name}_MEMORY": own.shared_memory,
            }
        return tuple(macros.items())


@lru_cache(maxsize=1024)
def choose(cell: HandDerivedCell, size: int, R: int, B: int, gpu: Multiprocessor, asked: int | None = None) -> Plan:
    """The plan with the smallest tile with which all tiles run at once; otherwise with the largest.

    Where weights stand in shared memory or are read from L2, a tile of four rows is the largest.

    Args:
        cell: rnn, lstm or gru.
        size: bytes of a number, 4 or 8.
        R: replicas.
        B: sequences.
        gpu: what it runs on.
        asked: rows of a tile, or the next smaller size that fits; None leaves the choice here.

    Raises:
        ValueError: where not even a tile of one row fits.
    """
    chosen = None
    for plan in _plans(cell, size, gpu):
        chosen, rows = plan, plan.rows
        at_once = gpu.count * min(plan.forward.blocks, plan.backward.blocks) // plan.cluster
        if rows == asked or (asked is None and R * -(-B // rows) <= at_once):
            break
    if chosen is None:
        raise ValueError(f"hidden_size={cell.hidden_size} does not fit this GPU's shared memory")
    return chosen


def tiles(cell: HandDerivedCell, size: int, B: int, gpu: Multiprocessor) -> list[int]:
    """The tiles that B sequences can take, the largest of them the first that takes all."""
    return [plan.rows for plan in _plans(cell, size, gpu) if plan.rows == 1 or plan.rows < 2 * B]


def _plans(cell: HandDerivedCell, size: int, gpu: Multiprocessor) -> list[Plan]:
    """From the smallest tile on, as far as they fit."""
    plans = []
    for rows in TILES:
        plan = lay_out(cell, size, rows, gpu)
        if plan is None or (rows > 4 and not (plan.forward.in_registers_alone and plan.backward.in_registers_alone)):
            break
        plans.append(plan)
    return plans


def lay_out(cell: HandDerivedCell, size: int, rows: int, gpu: Multiprocessor) -> Plan | None:
    """The plan for tiles of so many rows, or None where their states do not fit shared memory."""
    return _lay_out(cell, size, rows, _cluster(cell, size, gpu), gpu)


@lru_cache(maxsize=1024)
def _cluster(cell: HandDerivedCell, size: int, gpu: Multiprocessor) -> int:
    """The fewest blocks that keep all weights on chip, beside the sources of a tile of four rows; 1 where none do."""
    largest = gpu.cluster if cell.hidden_size >= CLUSTERED else 1
    for cluster in CLUSTERS[: CLUSTERS.index(largest) + 1]:
        layout = _lay_out(cell, size, 4, cluster, gpu)
        if layout is not None and layout.forward.from_memory == layout.backward.from_memory == 0:
            return cluster
    return 1


def _lay_out(cell: HandDerivedCell, size: int, rows: int, cluster: int, gpu: Multiprocessor) -> Plan | None:
    G, H = len(cell.gates), cell.hidden_size
    own = H if cluster == 1 else -(-H // (4 * cluster)) * 4
    sources = 1 if cluster == 1 else 2
    norms, parts = 2 * len(cell.states) - 1, cluster * -(-own // _WARP)
    behind = 8 * sources * norms * rows * parts + 4 * rows  # what backward.cuh keeps behind the sums
    forward = _pass(G * own, H, size, rows, sources, 0, gpu.shared_memory)
    backward = _pass(own, G * H, size, rows, sources, behind, gpu.shared_memory)
    if forward is None or backward is None:
        return None
    nonlinearity = compiled.NONLINEARITIES.index(cell.nonlinearity)
    return Plan(compiled.name(cell), nonlinearity, H, size == 8, rows, forward, backward, cluster, own)


def too_large(cell: HandDerivedCell, size: int) -> str:
    """Why W_hh is too large for this engine, or ""."""
    weights = len(cell.gates) * cell.hidden_size**2 * size
    if weights <= LARGEST:
        return ""
    return f"W_hh takes {weights / 2**20:.1f} MB, and its kernels keep up to {LARGEST / 2**20:.0f} MB on chip or in L2"


def _pass(N: int, K: int, size: int, rows: int, sources: int, extra: int, shared_memory: int) -> Pass | None:
    groups = -(-N // 4)
    slices = _slices(groups, K)
    threads = -(-groups * slices // 32) * 32
    depth = -(-K // (4 * slices))
    in_registers = min(depth, REGISTERS * 4 // size // 16)
    line, source = 4 * groups, sources * rows * 4 * slices * depth
    sums = slices * (-(-rows * line // 32) * 32 + (max(4, 128 // slices) if slices > 4 else 0))
    states = (source + sums) * size + extra
    each = 16 * threads * size  # bytes that one quadruple of k takes, for four rows of all threads
    in_shared = min(depth - in_registers, max(0, shared_memory - states) // each)
    if states > shared_memory:
        return None
    from_memory = depth - in_registers - in_shared
    return Pass(slices, threads, in_registers, in_shared, from_memory, states + in_shared * each)


def _slices(groups: int, K: int) -> int:
    """The fewest slices with 32 weights a thread in a block of up to 256 threads, else 64 in one of 512, else most."""
    quadruples = -(-K // 4)
    for weights, threads in ((32, 256), (64, THREADS)):
        slices = 1
        while 16 * -(-quadruples // slices) > weights:
            slices *= 2
        if groups * slices <= threads:
            return slices
    slices = 1
    while groups * slices * 2 <= THREADS:
        slices *= 2
    return slices
