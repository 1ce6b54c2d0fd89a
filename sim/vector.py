"""Vectors of eight integers of 32 bits for compiled code: one per PE, in one register where the processor can.

The compiler finds no vectors in loops over PEs: it unrolls them first. Vectors are added, subtracted, compared with
``>`` (all ones where it holds), and combined with ``&``, ``|``, ``min`` and ``max``, element by element; an integer
beside a vector stands for eight of it. Nothing checks for overflow.

Numba's cache doesn't see when this file changes.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model, type_callable

__all__ = ["WIDTH", "history", "largest", "last", "load", "note", "oldest", "paired", "rising", "splat", "store"]

#: Elements of a vector.
WIDTH = 8
_INT, _WIDE = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_INT, WIDTH)


class _Type(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="Vector")

    def can_convert_from(self, _context: Any, other: Any) -> Any:
        return Conversion.safe if isinstance(other, types.Integer) else None


_TYPE = _Type()


@register_model(_Type)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, _VECTOR)


@lower_cast(types.Integer, _Type)
def _from_integer(context, builder, source, _target, value):
    first = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), context.cast(builder, value, source, types.int32), ir.Constant(_INT, 0)
    )
    return _shuffled(builder, first, [0] * WIDTH)


def _shuffled(builder, vector, order):
    return builder.shuffle_vector(vector, vector, ir.Constant(_VECTOR, order))


def _larger(builder, a, b):
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _operator(function: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Gives vectors an operator, which ``build`` makes in the compiler's own language."""

    @type_callable(function)
    def typed(_context):
        return lambda a, b: signature(_TYPE, _TYPE, _TYPE) if _TYPE in (a, b) else None

    @lower_builtin(function, _TYPE, _TYPE)
    def lowered(_context, builder, _signature, args):
        return build(builder, *args)


_operator(operator.add, ir.IRBuilder.add)
_operator(operator.sub, ir.IRBuilder.sub)
_operator(operator.and_, ir.IRBuilder.and_)
_operator(operator.or_, ir.IRBuilder.or_)
_operator(operator.gt, lambda builder, a, b: builder.sext(builder.icmp_signed(">", a, b), _VECTOR))
_operator(max, _larger)
_operator(min, lambda builder, a, b: builder.select(builder.icmp_signed("<", a, b), a, b))


@intrinsic
def splat(_context, value):
    """Eight of an integer."""

    def build(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], _TYPE)

    return _TYPE(value), build


def _pointer(context, builder, kind, array, index):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def load(_context, array, index):
    """Eight neighbours in an array (of one dimension, int32 or smaller), from the index on."""

    def build(context, builder, signature, args):
        element = context.get_data_type(array.dtype)
        pointer = _pointer(context, builder, array, *args)
        pointer = builder.bitcast(pointer, ir.VectorType(element, WIDTH).as_pointer())
        found = builder.load(pointer, align=element.width // 8)
        return found if element == _INT else builder.sext(found, _VECTOR)

    return _TYPE(array, index), build


@intrinsic
def store(_context, array, index, vector):
    """Writes eight neighbours in an int32 array."""

    def build(context, builder, signature, args):
        pointer = builder.bitcast(_pointer(context, builder, array, *args[:2]), _VECTOR.as_pointer())
        builder.store(args[2], pointer, align=_INT.width // 8)
        return context.get_dummy_value()

    return types.void(array, index, vector), build


class _History(types.Type):
    """Numba's type of the last vectors that were noted, element by element."""

    def __init__(self, depth: int) -> None:
        super().__init__(name=f"History({depth})")
        self.depth = depth


@register_model(_History)
class _HistoryModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, ir.ArrayType(_VECTOR, kind.depth))


@intrinsic
def history(_context, places):
    """As many vectors of -1 as a tuple of integers has places."""
    kind = _History(places.count)

    def build(context, builder, _signature, _args):
        return ir.Constant(context.get_value_type(kind), [ir.Constant(_VECTOR, [-1] * WIDTH)] * kind.depth)

    return kind(places), build


@intrinsic
def oldest(_context, noted):
    """Of each element the value that was noted first, of those that are held."""

    def build(_context, builder, _signature, args):
        return builder.extract_value(args[0], 0)

    return _TYPE(noted), build


@intrinsic
def note(_context, noted, where, vector):
    """The history with one more value of each element ``where`` it is all ones; the oldest of these is forgotten."""

    def build(_context, builder, signature, args):
        found, where, vector = args
        chosen = builder.icmp_signed("<", where, ir.Constant(_VECTOR, [0] * WIDTH))
        before = [builder.extract_value(found, n) for n in range(signature.args[0].depth)]
        for n, (kept, following) in enumerate(zip(before, [*before[1:], vector], strict=True)):
            found = builder.insert_value(found, builder.select(chosen, following, kept), n)
        return found

    return noted(noted, where, vector), build


@intrinsic
def largest(_context, vector):
    """The largest of the eight."""

    def build(_context, builder, _signature, args):
        name = f"llvm.vector.reduce.smax.v{WIDTH}i{_INT.width}"
        reduced = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_INT, [_VECTOR]), name)
        return builder.sext(builder.call(reduced, args), _WIDE)

    return types.int64(vector), build


@intrinsic
def rising(_context, vector):
    """For each element, the largest of those up to it."""

    def build(_context, builder, _signature, args):
        found = args[0]
        for distance in (1, 2, 4):
            found = _larger(builder, found, _shuffled(builder, found, [max(n - distance, 0) for n in range(WIDTH)]))
        return found

    return _TYPE(vector), build


def _shuffle(order: Sequence[int], text: str) -> Any:
    """A function that puts a vector's elements in another order."""

    @intrinsic
    def shuffled(_context, vector):
        def build(_context, builder, _signature, args):
            return _shuffled(builder, args[0], order)

        return _TYPE(vector), build

    shuffled.__doc__ = text
    return shuffled


paired = _shuffle([n | 1 for n in range(WIDTH)], "Of each pair of neighbours, the second one twice.")
last = _shuffle([WIDTH - 1] * WIDTH, "The last element everywhere.")
