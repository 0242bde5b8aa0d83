"""Numbers of bf16 and fp32 arrays as fp32, and the exponential function, in forms that LLVM vectorizes."""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload

from sesame.data_pipeline.compiled import as_written

F = np.float32
U = np.uint32


def _as_float(typing: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        word = context.get_value_type(types.uint32)
        if value.type.width > word.width:
            value = builder.trunc(value, word)
        return builder.bitcast(value, context.get_value_type(types.float32))

    return types.float32(bits), generate


def _as_bits(typing: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


as_float: Any = intrinsic(_as_float)
"""as_float(bits): the fp32 number of 32 bits."""
as_bits: Any = intrinsic(_as_bits)
"""as_bits(number): the bits of an fp32 number."""


def load(array: Any, index: Any) -> Any:
    """Return an entry as fp32."""
    raise NotImplementedError


@overload(load)
def _load(array: Any, index: Any) -> Any:
    if array.dtype != types.uint16:

        def load_fp32(array: Any, index: Any) -> Any:
            return array[index]

        return load_fp32

    def load_bf16(array: Any, index: Any) -> Any:
        return as_float(U(array[index]) << U(16))

    return load_bf16


def store(array: Any, index: Any, number: Any) -> None:
    """Write fp32 to an entry, rounded to the nearest, to even if two are as near."""
    raise NotImplementedError


@overload(store)
def _store(array: Any, index: Any, number: Any) -> Any:
    if array.dtype != types.uint16:

        def store_fp32(array: Any, index: Any, number: Any) -> None:
            array[index] = number

        return store_fp32

    def store_bf16(array: Any, index: Any, number: Any) -> None:
        # A NaN of bf16 numbers stays one: its low bits are 0.
        bits = as_bits(number)
        array[index] = np.uint16((bits + U(0x7FFF) + ((bits >> U(16)) & U(1))) >> U(16))

    return store_bf16


LOG2_E, LN2_HIGH, LN2_LOW = F(1.4426950408889634), F(0.693359375), F(-2.12194440e-4)
ROUNDS = F(1.5 * 2**23)
"""fp32 numbers of this size have no fraction, so adding it rounds."""
ROUNDS_BITS = np.uint32(0x4B400000)
LEAST, MOST = F(-87.0), F(88.0)


@as_written
def exp(x: Any) -> Any:
    """Return e^x with a relative error below 2e-7; 0 below -87, inf above 88 (polynomial of the Cephes library)."""
    shifted = x * LOG2_E + ROUNDS
    exponent = shifted - ROUNDS
    rest = x - exponent * LN2_HIGH
    rest = rest - exponent * LN2_LOW
    power = F(1.9875691500e-4)
    power = power * rest + F(1.3981999507e-3)
    power = power * rest + F(8.3334519073e-3)
    power = power * rest + F(4.1665795894e-2)
    power = power * rest + F(1.6666665459e-1)
    power = power * rest + F(5.0000001201e-1)
    power = power * (rest * rest) + rest + F(1.0)
    # A NaN has no exponent, but the product with it is one whatever the other factor.
    power = power * as_float((as_bits(shifted) - ROUNDS_BITS + U(127)) << U(23))
    if x < LEAST:
        power = F(0.0)
    if x > MOST:
        power = F(np.inf)
    return power
