"""A run's state goes through JSON and comes back as it was."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.state_tree import join, take_apart

KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text()))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


def typed(tree):
    """A tree in which equal things of different types differ: ``1 == True == 1.0`` in Python."""
    if isinstance(tree, list | tuple):
        return type(tree).__name__, [typed(part) for part in tree]
    if isinstance(tree, dict):
        return "dict", [(typed(key), typed(value)) for key, value in tree.items()]
    return type(tree).__name__, tree


@settings(max_examples=40)
@given(TREES)
def test_trees_come_back_through_json(tree):
    manifest, arrays = take_apart(tree)
    assert arrays == {}
    assert typed(join(json.loads(json.dumps(manifest)), arrays)) == typed(tree)


def test_keys_that_stand_for_something_may_be_anyones():
    tree = {"$array": "tensor0", "$tuple": [1], "$pairs": {"$pairs": ()}}
    manifest, arrays = take_apart(tree)
    assert join(json.loads(json.dumps(manifest)), arrays) == tree


def test_tensors_keep_their_types_shapes_and_order():
    tensors = [
        torch.arange(6).reshape(2, 3).T, torch.tensor(1.5), torch.zeros(0, 2, dtype=torch.uint8),
        torch.tensor([True, False]), torch.full((2,), float("nan"), requires_grad=True),
    ]  # fmt: skip
    manifest, arrays = take_apart({"deep": [tuple(tensors)], 3: tensors[0]})
    assert list(arrays) == [f"tensor{n}" for n in range(6)]
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    found = join(json.loads(json.dumps(manifest)), arrays)
    for tensor, other in zip([*tensors, tensors[0]], [*found["deep"][0], found[3]], strict=True):
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
        assert not other.requires_grad
        np.testing.assert_array_equal(tensor.detach().numpy(), other.numpy())


def test_what_was_taken_apart_no_longer_changes():
    tensor = torch.zeros(2)
    manifest, arrays = take_apart(tensor)
    tensor += 1
    first = join(manifest, arrays)
    first += 2
    assert join(manifest, arrays).tolist() == [0, 0]


@pytest.mark.parametrize("other", [{1}, np.zeros(1), b"bytes", 1j, object()])
def test_anything_else_is_refused_wherever_it_stands(other):
    for tree in (other, {"a": [(other,)]}):
        with pytest.raises(TypeError, match=f"must be of numbers, strings and tensors, not {type(other).__name__}$"):
            take_apart(tree)
