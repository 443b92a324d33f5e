"""Eight floats in one register: a type that compiled kernels compute with.

`lanes + 1`, `lanes * other`, `lanes <= limit` act on all eight at once; scalars are float32 and spread over the lanes.
LLVM maps the type to what the processor has: one AVX register, two of SSE or NEON. Loops that numba vectorises by itself
lose their sums to horizontal additions and their row ends to mispredicted branches; written with this type they do not.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

LANES = 8
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _BITS = ir.VectorType(_FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)


class _Lanes(types.Type):
    """Eight float32 numbers."""


class _Mask(types.Type):
    """Eight truth values, from comparing lanes."""


_lanes, _mask, _scalar = _Lanes("lanes"), _Mask("mask"), types.float32


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _FLOATS)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _BITS)


def _spread(builder, value):
    """A scalar in every lane; lanes as they are."""
    if value.type == _FLOATS:
        return value
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _define(symbol, kinds, result, emit):
    """Teach numba an operator on lanes, or on lanes and a scalar."""

    class Operator(AbstractTemplate):
        def generic(self, arguments, keywords):
            if tuple(arguments) in kinds and not keywords:
                return signature(result, *arguments)

    infer_global(symbol)(Operator)
    for pair in kinds:

        @lower_builtin(symbol, *pair)
        def lower(context, builder, signature, arguments):
            return emit(builder, *arguments)


_WITH_LANES = ((_lanes, _lanes), (_lanes, _scalar), (_scalar, _lanes))
for _symbol, _name in ((operator.add, "fadd"), (operator.iadd, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _define(_symbol, _WITH_LANES, _lanes, lambda b, x, y, name=_name: getattr(b, name)(_spread(b, x), _spread(b, y)))
for _symbol, _name in ((operator.le, "<="), (operator.ge, ">="), (operator.gt, ">"), (operator.lt, "<")):
    _define(_symbol, _WITH_LANES, _mask, lambda b, x, y, name=_name: b.fcmp_ordered(name, _spread(b, x), _spread(b, y)))
_define(operator.and_, ((_mask, _mask),), _mask, lambda b, x, y: b.and_(x, y))


def _place(context, builder, array_type, array, index):
    """The address of an element of a flat array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _unary(name):
    """A function of LLVM's own that acts on every lane."""

    @intrinsic
    def function(typing, x):
        def emit(context, builder, signature, arguments):
            kind = ir.FunctionType(_FLOATS, [_FLOATS])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32"), arguments)

        return _lanes(_lanes), emit

    return function


sqrt, floor, ceil = _unary("sqrt"), _unary("floor"), _unary("ceil")


@intrinsic
def load(typing, array, index):
    """The eight numbers of a flat float32 array from an index on."""

    def emit(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4)

    return _lanes(array, types.intp), emit


@intrinsic
def store(typing, array, index, value):
    """Write lanes to a flat float32 array from an index on."""

    def emit(context, builder, signature, arguments):
        array, index, value = arguments
        place = _place(context, builder, signature.args[0], array, index)
        builder.store(value, builder.bitcast(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), emit


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line of an element that will be needed soon."""

    def emit(context, builder, signature, arguments):
        place = builder.bitcast(_place(context, builder, signature.args[0], *arguments), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, _INT, _INT, _INT])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(fetch, [place, *(ir.Constant(_INT, x) for x in (0, 3, 1))])  # to read, into the first level, data
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def spread(typing, value):
    """A scalar in every lane."""

    def emit(context, builder, signature, arguments):
        return _spread(builder, arguments[0])

    return _lanes(_scalar), emit


@intrinsic
def select(typing, mask, yes, no):
    """Lane by lane, one or the other."""

    def emit(context, builder, signature, arguments):
        mask, yes, no = arguments
        return builder.select(mask, _spread(builder, yes), _spread(builder, no))

    return _lanes(mask, yes, no), emit


@intrinsic
def lesser(typing, x, y):
    """Lane by lane, the smaller one."""

    def emit(context, builder, signature, arguments):
        x, y = (_spread(builder, a) for a in arguments)
        return builder.select(builder.fcmp_ordered("<", x, y), x, y)

    return _lanes(x, y), emit


@intrinsic
def any_of(typing, mask):
    """Whether some lane is true."""

    def emit(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(_mask), emit


@intrinsic
def total(typing, x):
    """The sum of the lanes, by halves."""

    def emit(context, builder, signature, arguments):
        (x,) = arguments
        for half in (4, 2, 1):
            order = ir.Constant(ir.VectorType(_INT, LANES), [(i + half) % LANES for i in range(LANES)])
            x = builder.fadd(x, builder.shuffle_vector(x, x, order))
        return builder.extract_element(x, ir.Constant(_INT, 0))

    return _scalar(_lanes), emit
