"""What no tensor and no layer can be, whatever its kind, is refused by name; values at the edges are taken."""

import re
from typing import Any, ClassVar

import numpy as np
import pytest

from hw.network.base_layer import Layer, Tensor, check_pads, check_strides
from tests.hw.networks import tensor


class Pair(Layer):
    """A layer of two inputs."""

    kind: ClassVar[str] = "pair"
    arity: ClassVar[int] = 2


def layer(output: Tensor, clamp: Any = (-128, 127)) -> Pair:
    return Pair(name="pair", inputs=("a", "b"), output=output, clamp=clamp)


SHAPE = "shape must be three positive integers (height, width, channels), not "
SCALE, ZERO = "scale must be positive and finite, not ", "zero point must be an integer in -128..127, not "


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (tensor(3, 4), SHAPE + "(3, 4)"),
        (tensor(3, 0, 4), SHAPE + "(3, 0, 4)"),
        (tensor(3, 4, 4.0), SHAPE + "(3, 4, 4.0)"),
        (tensor(3, 4, True), SHAPE + "(3, 4, True)"),
        (tensor(3, 4, 4, scale=0.0), SCALE + "0.0"),
        (tensor(3, 4, 4, scale=-0.5), SCALE + "-0.5"),
        (tensor(3, 4, 4, scale=np.nan), SCALE + "nan"),
        (tensor(3, 4, 4, scale=np.inf), SCALE + "inf"),
        (tensor(3, 4, 4, scale=1), SCALE + "1"),
        (tensor(3, 4, 4, zero_point=128), ZERO + "128"),
        (tensor(3, 4, 4, zero_point=-129), ZERO + "-129"),
        (tensor(3, 4, 4, zero_point=0.5), ZERO + "0.5"),
    ],
)
def test_impossible_tensors_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=f"^map: {re.escape(message)}$"):
        wrong.check("map")
    with pytest.raises(ValueError, match=f"^pair: {re.escape(message)}$"):
        layer(wrong).check((tensor(1, 1, 1),) * 2)


def test_tensors_at_the_edges_are_taken():
    for zero_point in (-128, 127):
        tensor(1, 1, 1, scale=5e-324, zero_point=zero_point).check("map")


CLAMP = "clamp must be two ordered integers in -128..127, not "


@pytest.mark.parametrize(
    ("clamp", "message"),
    [
        ((5, 4), CLAMP + "(5, 4)"),
        ((-129, 4), CLAMP + "(-129, 4)"),
        ((-128, 128), CLAMP + "(-128, 128)"),
        ((-128, 0, 4), CLAMP + "(-128, 0, 4)"),
        ((-128.0, 4), CLAMP + "(-128.0, 4)"),
        ((4, 9), "clamp (4, 9) must contain the zero point 3"),
        ((-9, 2), "clamp (-9, 2) must contain the zero point 3"),
    ],
)
def test_impossible_clamps_are_refused(clamp, message):
    with pytest.raises(ValueError, match=f"^pair: {re.escape(message)}$"):
        layer(tensor(3, 4, 4, zero_point=3), clamp).check((tensor(1, 1, 1),) * 2)


@pytest.mark.parametrize("clamp", [(-128, 127), (3, 3), (3, 127), (-128, 3)])
def test_clamps_that_hold_the_zero_point_are_taken(clamp):
    layer(tensor(3, 4, 4, zero_point=3), clamp).check((tensor(1, 1, 1),) * 2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_layer_reads_as_many_tensors_as_its_kind(count):
    with pytest.raises(ValueError, match=f"^pair: pair reads 2 tensors, not {count}$"):
        layer(tensor(3, 4, 4)).check((tensor(1, 1, 1),) * count)


LARGEST = (1 << 16) - 1


@pytest.mark.parametrize(
    ("strides", "message"),
    [
        ((1, 0), "strides must be two positive integers, not (1, 0)"),
        ((1,), "strides must be two positive integers, not (1,)"),
        ((1.0, 1), "strides must be two positive integers, not (1.0, 1)"),
        (3, "strides must be two positive integers, not 3"),
        ((1, LARGEST + 1), f"strides must be at most {LARGEST}, not {LARGEST + 1}"),
    ],
)
def test_what_are_no_strides_is_refused(strides, message):
    with pytest.raises(ValueError, match=f"^conv: {re.escape(message)}$"):
        check_strides("conv", strides)


@pytest.mark.parametrize("pads", [(0, 0, 0), (0, -1, 0, 0), (0, 0, 0, 0.5), 1, None])
def test_what_are_no_pads_is_refused(pads):
    with pytest.raises(
        ValueError, match=f"^conv: {re.escape(f'pads must be four integers of at least 0, not {pads}')}$"
    ):
        check_pads("conv", pads)


def test_strides_and_pads_at_the_edges_are_taken():
    check_strides("conv", (1, LARGEST))
    check_pads("conv", (0, 0, 0, 1 << 40))
