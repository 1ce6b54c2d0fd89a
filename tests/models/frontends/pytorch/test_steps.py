"""What a step computes, written down with NumPy; a graph without its early exits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frontends.pytorch.steps import Graph, GraphStep, compute

RNG = np.random.default_rng(3)
PADS = st.tuples(*[st.integers(0, 2)] * 4)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def step(kind: str, **values) -> GraphStep:
    return GraphStep(kind=kind, name="s", inputs=("input",), shape=(1, 1, 1), **values)


def windows(x: np.ndarray, pads, window, stride, fill: float) -> np.ndarray:
    """Every window of a padded map: (N, channels, rows, columns, *window)."""
    top, bottom, left, right = pads
    padded = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, window, (2, 3))[:, :, :: stride[0], :: stride[1]]


@settings(max_examples=60)
@given(pads=PADS, window=PAIRS, stride=PAIRS)
def test_max_pools_with_any_padding(pads, window, stride):
    """Positions around the map are never the largest, however negative the map is."""
    x = -RNG.random((1, 2, 4, 5)).astype(np.float32) - 1
    found = compute(step("max_pool", pads=pads, window=window, stride=stride), [torch.from_numpy(x)])
    np.testing.assert_array_equal(found.numpy(), windows(x, pads, window, stride, -np.inf).max((4, 5)))


@settings(max_examples=40)
@given(pads=PADS, kernel=PAIRS, stride=PAIRS, depthwise=st.booleans())
def test_convolutions_with_any_padding(pads, kernel, stride, depthwise):
    x = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    weight = RNG.standard_normal((3, 1 if depthwise else 3, *kernel)).astype(np.float32)
    bias = np.float32([1, -2, 3])
    made = step("depthwise" if depthwise else "conv", pads=pads, stride=stride)
    found = compute(made, [torch.from_numpy(x)], torch.from_numpy(weight), torch.from_numpy(bias)).numpy()
    parts = windows(x, pads, kernel, stride, 0.0)
    sums = "ncyxhw,chw->ncyx" if depthwise else "ncyxhw,ochw->noyx"
    expected = np.einsum(sums, parts, weight[:, 0] if depthwise else weight) + bias[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_sums_and_averages():
    x, y = (torch.from_numpy(RNG.random((2, 3, 4, 6)).astype(np.float32)) for _ in range(2))
    assert torch.equal(compute(step("add"), [x, y]), x + y)
    found = compute(step("pool", window=(2, 3), stride=(2, 1)), [x])
    expected = windows(x.numpy(), (0, 0, 0, 0), (2, 3), (2, 1), 0.0).mean((4, 5))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_relu_and_winners_are_left_to_others():
    x = torch.full((1, 1, 2, 2), -1.0)
    made = GraphStep(kind="add", name="s", inputs=("a", "b"), shape=(2, 2, 1), relu=True)
    assert torch.equal(compute(made, [x, x]), 2 * x)


@pytest.mark.parametrize(
    ("exits", "expected"), [(("b", "e"), "ade"), (("e", "b"), "ab"), (("e",), "ade"), (("c",), "abc")]
)
def test_what_only_early_exits_need_goes(exits, expected):
    reads = {"a": "x", "b": "a", "c": "ab", "d": "a", "e": "da"}
    steps = tuple(GraphStep(kind="add", name=name, inputs=tuple(read), shape=(1, 1, 1)) for name, read in reads.items())
    found = Graph(shape=(1, 1, 1), steps=steps, exits=exits).final_only()
    assert "".join(each.name for each in found.steps) == expected
    assert found.exits == exits[-1:]
