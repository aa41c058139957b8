"""Numba types for a vector of 64 bytes: its arithmetic, loads and stores, and operations on its bits.

Two types, 16 lanes of float32 and 8 of float64. Nothing is contracted or reordered behind the author's back: `fma` is
written where it is meant, so that results are the same bits on every machine that has one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

BYTES = 64


class Vector(types.Type):
    """The Numba type: `element` is types.float32 or types.float64."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        self.lanes = BYTES * 8 // element.bitwidth
        self.real = ir.FloatType() if element.bitwidth == 32 else ir.DoubleType()
        self.integer = ir.IntType(element.bitwidth)
        self.mantissa = 23 if element.bitwidth == 32 else 52
        self.llvm = ir.VectorType(self.real, self.lanes)
        self.bits = ir.VectorType(self.integer, self.lanes)
        super().__init__(name=f"Vector({element}x{self.lanes})")


V32, V64 = Vector(types.float32), Vector(types.float64)


def vector_of(element: types.Type) -> Vector:
    """The vector type of an element type."""
    return V32 if element == types.float32 else V64


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.llvm)


def splat(builder: Any, kind: Vector, value: Any) -> Any:
    """LLVM: a scalar in every lane."""
    undefined = ir.Constant(kind.llvm, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), None))


def constant(kind: Vector, value: float) -> Any:
    """LLVM: a number in every lane."""
    return ir.Constant(kind.llvm, [ir.Constant(kind.real, value)] * kind.lanes)


def call_llvm(builder: Any, name: str, kind: Vector, arguments: Any) -> Any:
    """LLVM: an intrinsic of vectors, such as llvm.fma."""
    suffix = f"v{kind.lanes}f{kind.element.bitwidth}"
    function = ir.FunctionType(kind.llvm, [kind.llvm] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{suffix}"), arguments)


# memory: a pointer and an index in elements


@intrinsic
def pointer(typing: Any, address: Any, real: Any) -> Any:
    """An address as a pointer to numbers of the type of `real`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(real)(types.int64, real), emit


@intrinsic
def at(typing: Any, base: Any, index: Any) -> Any:
    """The pointer moved on by so many elements."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return base(base, types.int64), emit


@intrinsic
def read(typing: Any, base: Any, index: Any) -> Any:
    """One number."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.gep(arguments[0], [arguments[1]]))

    return base.dtype(base, types.int64), emit


@intrinsic
def write(typing: Any, base: Any, index: Any, value: Any) -> Any:
    """Store one number."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = context.cast(builder, arguments[2], signature.args[2], signature.args[0].dtype)
        builder.store(value, builder.gep(arguments[0], [arguments[1]]))
        return context.get_dummy_value()

    return types.void(base, types.int64, value), emit


@intrinsic
def lanes(typing: Any, base: Any) -> Any:
    """How many numbers of the pointer's type a vector holds."""
    count = vector_of(base.dtype).lanes

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), count)

    return types.int64(base), emit


@intrinsic
def load(typing: Any, base: Any, index: Any) -> Any:
    """One vector, from any alignment."""
    kind = vector_of(base.dtype)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return load_vector(builder, kind, builder.gep(arguments[0], [arguments[1]]))

    return kind(base, types.int64), emit


@intrinsic
def store(typing: Any, base: Any, index: Any, value: Any) -> Any:
    """Store one vector, to any alignment."""
    kind = vector_of(base.dtype)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store_vector(builder, kind, arguments[2], builder.gep(arguments[0], [arguments[1]]))
        return context.get_dummy_value()

    return types.void(base, types.int64, kind), emit


@intrinsic
def spread(typing: Any, value: Any, real: Any) -> Any:
    """A number in every lane of the vector type of `real`."""
    kind = vector_of(real)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return splat(builder, kind, context.cast(builder, arguments[0], signature.args[0], kind.element))

    return kind(value, real), emit


@intrinsic(prefer_literal=True)
def doubles(typing: Any, count: Any) -> Any:
    """Room for so many float64 on the stack of the function that asks; a literal number."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return cgutils.alloca_once(builder, ir.DoubleType(), size=count.literal_value)

    return types.CPointer(types.float64)(count), emit


def load_vector(builder: Any, kind: Vector, address: Any) -> Any:
    """LLVM: an unaligned load."""
    loaded = builder.load(builder.bitcast(address, kind.llvm.as_pointer()))
    loaded.align = kind.element.bitwidth // 8
    return loaded


def store_vector(builder: Any, kind: Vector, value: Any, address: Any) -> None:
    """LLVM: an unaligned store."""
    builder.store(value, builder.bitcast(address, kind.llvm.as_pointer())).align = kind.element.bitwidth // 8


@intrinsic
def prefetch(typing: Any, base: Any, index: Any) -> Any:
    """Ask for the cache line of a number that will be read soon."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        builder.call(function, [address, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(base, types.int64), emit


@intrinsic
def fetch_add(typing: Any, counter: Any) -> Any:
    """Take the next number from a counter that threads share."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.CPointer(types.int64)), emit


# arithmetic


def _operator(symbol: Callable[..., Any], emit_name: str) -> None:
    """Vector ∘ vector, and vector ∘ number, whose number LLVM folds into a constant."""
    cases = [signature(v, *pair) for v in (V32, V64) for pair in ((v, v), (v, types.float64), (types.float64, v))]
    infer_global(symbol)(type(f"_Vector_{emit_name}", (ConcreteTemplate,), {"cases": cases}))

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.return_type
        operands = [
            value
            if isinstance(given, Vector)
            else splat(builder, kind, context.cast(builder, value, given, kind.element))
            for value, given in zip(arguments, signature.args, strict=True)
        ]
        return getattr(builder, emit_name)(*operands)

    for case in cases:
        lower_builtin(symbol, *case.args)(emit)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "fma", a, arguments)

    return a(a, a, a), emit


@intrinsic
def absolute(typing: Any, a: Any) -> Any:
    """|a|."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "fabs", a, arguments)

    return a(a), emit


@intrinsic
def copysign(typing: Any, a: Any, sign: Any) -> Any:
    """|a| with the sign of the second."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "copysign", a, arguments)

    return a(a, a), emit


def _bound(order: str) -> Any:
    @intrinsic
    def bound(typing: Any, a: Any, limit: Any) -> Any:
        """The limit where `a` is beyond it; NaN stays NaN."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = splat(builder, a, context.cast(builder, arguments[1], signature.args[1], a.element))
            return builder.select(builder.fcmp_ordered(order, value, arguments[0]), value, arguments[0])

        return a(a, types.float64), emit

    return bound


at_most, at_least = _bound("<"), _bound(">")


@intrinsic
def power_of_two(typing: Any, a: Any) -> Any:
    """2^n, where n is the integer in the last bits of `a` = n + 1.5·2^mantissa."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shift = ir.Constant(a.bits, [ir.Constant(a.integer, a.mantissa)] * a.lanes)
        one = builder.bitcast(constant(a, 1.0), a.bits)
        n = builder.shl(builder.bitcast(arguments[0], a.bits), shift)
        return builder.bitcast(builder.add(n, one), a.llvm)

    return a(a), emit


@intrinsic
def exponent(typing: Any, a: Any) -> Any:
    """The n of |a| = m·2^n, 1 ≤ m < 2, as a number of a's type, where `a` is normal."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        biased = builder.lshr(_magnitude(builder, a, arguments[0]), _bits(a, a.mantissa))
        # as the last bits of 2^mantissa: no conversion of integers, which AVX2 does not have
        number = builder.bitcast(builder.or_(biased, _bits_of(builder, a, 2.0**a.mantissa)), a.llvm)
        return builder.fsub(number, constant(a, 2.0**a.mantissa + 2 ** (a.element.bitwidth - a.mantissa - 2) - 1))

    return a(a), emit


@intrinsic
def significand(typing: Any, a: Any) -> Any:
    """The m of |a| = m·2^n, 1 ≤ m < 2, where `a` is normal."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        digits = builder.and_(builder.bitcast(arguments[0], a.bits), _bits(a, 2**a.mantissa - 1))
        return builder.bitcast(builder.or_(digits, _bits_of(builder, a, 1.0)), a.llvm)

    return a(a), emit


@intrinsic
def choose(typing: Any, a: Any, limit: Any, above: Any, otherwise: Any) -> Any:
    """`above` where a > limit, else `otherwise`; so where `a` is NaN."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, bound, above, otherwise = arguments
        bound = splat(builder, a, context.cast(builder, bound, signature.args[1], a.element))
        return builder.select(builder.fcmp_ordered(">", value, bound), above, otherwise)

    return a(a, types.float64, a, a), emit


@intrinsic
def first_lanes(typing: Any, a: Any, count: Any) -> Any:
    """The first so many lanes of `a`, and zeros in place of the others."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, count = arguments
        lane = _numbers(64, range(a.lanes))
        single = builder.insert_element(ir.Constant(lane.type, ir.Undefined), count, ir.Constant(ir.IntType(32), 0))
        every = ir.Constant(ir.VectorType(ir.IntType(32), a.lanes), None)
        counts = builder.shuffle_vector(single, ir.Constant(lane.type, ir.Undefined), every)
        return builder.select(builder.icmp_signed("<", lane, counts), value, constant(a, 0.0))

    return a(a, types.int64), emit


def _bits(kind: Vector, value: int) -> Any:
    """LLVM: an integer in every lane."""
    return ir.Constant(kind.bits, [ir.Constant(kind.integer, value)] * kind.lanes)


def _bits_of(builder: Any, kind: Vector, value: float) -> Any:
    """LLVM: the bits of a number in every lane."""
    return builder.bitcast(constant(kind, value), kind.bits)


def _magnitude(builder: Any, kind: Vector, value: Any) -> Any:
    """LLVM: the bits of |value|."""
    return builder.bitcast(call_llvm(builder, "fabs", kind, [value]), kind.bits)


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum of the lanes, by halves, as float64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, _halve(builder, a, arguments[0], builder.fadd), a.element, types.float64)

    return types.float64(a), emit


@intrinsic
def largest(typing: Any, a: Any) -> Any:
    """The largest lane, as float64; NaN where the first of a pair is."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def larger(x: Any, y: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", y, x), y, x)

        return context.cast(builder, _halve(builder, a, arguments[0], larger), a.element, types.float64)

    return types.float64(a), emit


def _numbers(width: int, values: Sequence[int]) -> Any:
    """LLVM: integers of so many bits, one to a lane."""
    return ir.Constant(
        ir.VectorType(ir.IntType(width), len(values)), [ir.Constant(ir.IntType(width), k) for k in values]
    )


def _halve(builder: Any, kind: Vector, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """LLVM: combine the lower with the upper half until one lane is left."""
    lanes = kind.lanes
    while lanes > 1:
        lanes //= 2
        halves = [_numbers(32, range(first, first + lanes)) for first in (0, lanes)]
        lower, upper = (builder.shuffle_vector(value, value, half) for half in halves)
        value = combine(lower, upper)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
