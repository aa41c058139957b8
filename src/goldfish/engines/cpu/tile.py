"""A tile, some rows of one replica that one thread takes through time, and where their numbers lie in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS
from goldfish.engines.cpu.vector import at, fetch_add, pointer, read


class Tile(NamedTuple):
    """Rows b … b + M - 1 of replica r.

    Attributes:
        f: the description of the pass, as in goldfish.engines.cpu.field.
        cell: the module with the cell's equations.
        real: a zero of the pass's dtype.
        job: the number of this tile among those of all replicas.
        r: the replica.
        b: the first row.
        M: how many rows.
    """

    f: Any
    cell: Any
    real: Any
    job: int
    r: int
    b: int
    M: int


@njit(**OPTIONS)
def next_tile(f: Any, cell: Any, real: Any) -> Tile:
    """The next tile that no thread has taken; one of a replica that is not there, r = R, where none is left."""
    job, tiles, rows = fetch_add(at(f, field.NEXT_JOB)), read(f, field.TILES), read(f, field.ROWS)
    b = job % tiles * rows
    return Tile(f, cell, real, job, job // tiles, b, min(rows, read(f, field.B) - b))


@njit(**OPTIONS)
def of_replica(tile: Tile, which: int, size: int) -> Any:
    """The tile's replica in a tensor (R, size)."""
    return at(pointer(read(tile.f, which), tile.real), tile.r * size)


@njit(**OPTIONS)
def of_rows(tile: Tile, which: int) -> Any:
    """The tile's rows in a tensor (R, B, H)."""
    row = tile.r * read(tile.f, field.B) + tile.b
    return at(pointer(read(tile.f, which), tile.real), row * read(tile.f, field.H))


@njit(**OPTIONS)
def of_step(tile: Tile, which: int, t: int, width: int, kind: Any) -> Any:
    """The tile's rows at step t in a tensor (R, T, B, width) of the dtype of `kind`."""
    row = (tile.r * read(tile.f, field.T) + t) * read(tile.f, field.B) + tile.b
    return at(pointer(read(tile.f, which), kind), row * width)


@njit(**OPTIONS)
def strided(tile: Tile, which: int, t: int) -> Any:
    """The tile's rows at step t of the inputs, or of what reaches the outputs: three strides follow the address."""
    r, t_row, b = tile.r * read(tile.f, which + 1), t * read(tile.f, which + 2), tile.b * read(tile.f, which + 3)
    return at(pointer(read(tile.f, which), tile.real), r + t_row + b)


@njit(**OPTIONS)
def h_before(tile: Tile, t: int) -> Any:
    """h_{t-1} of the tile's rows."""
    H = read(tile.f, field.H)
    return of_step(tile, field.OUTPUTS, t - 1, H, tile.real) if t > 0 else of_rows(tile, field.H0)


@njit(**OPTIONS)
def chunks(f: Any) -> int:
    """How many chunks the steps fall into."""
    return (read(f, field.T) + read(f, field.CHUNK) - 1) // read(f, field.CHUNK)


@njit(**OPTIONS)
def c_before(tile: Tile, k: int) -> Any:
    """The tile's c at the start of chunk k; where k is the number of chunks, at the end."""
    if k == 0:
        return of_rows(tile, field.C0)
    if k == chunks(tile.f):
        return of_rows(tile, field.C_LAST)
    row = (tile.r * chunks(tile.f) + k) * read(tile.f, field.B) + tile.b
    return at(pointer(read(tile.f, field.CELL), tile.real), row * read(tile.f, field.H))


@njit(**OPTIONS)
def kept(tile: Tile, k: int) -> Any:
    """The saved numbers of the tile's steps from chunk k on, step after step and row after row."""
    T, B, S = read(tile.f, field.T), read(tile.f, field.B), tile.cell.SIZES.saved * read(tile.f, field.H)
    first = k * read(tile.f, field.CHUNK)
    index = ((tile.r * B + tile.b) * T + first * tile.M) * S
    return at(pointer(read(tile.f, field.SAVED), tile.real), index)
