import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hw.network.active import active_mask
from hw.network.layers import select_of
from hw.network.network import Network, Select
from hw.network.selection import winners
from tests.hw.networks import network


def first_winners(scores: list[int], count: int) -> set[int]:
    """The definition: sorted by falling score, then by rising index."""
    return set(sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:count])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_winners_equal_the_definition(data):
    shape = tuple(data.draw(st.integers(1, 4)) for _ in range(3))
    highest = data.draw(st.sampled_from((1, 3, 255)))  # ties are many, some, and few
    magnitudes = data.draw(arrays.arrays(np.int16, (2, *shape), elements=st.integers(0, highest)))
    kind = data.draw(st.sampled_from(("elements", "channels")))
    size = int(np.prod(shape)) if kind == "elements" else shape[2]
    count = data.draw(st.integers(1, size))
    found = winners(Select(kind=kind, count=count), magnitudes)
    assert found.shape == magnitudes.shape
    for image, where in zip(magnitudes, found, strict=True):
        if kind == "elements":
            assert set(np.flatnonzero(where)) == first_winners(image.reshape(-1).tolist(), count)
            assert where.sum() == count
        else:
            chosen = first_winners(image.sum(axis=(0, 1)).tolist(), count)
            assert all((where[..., channel] == (channel in chosen)).all() for channel in range(shape[2]))


def test_a_mask_is_the_same_everywhere():
    where = winners(Select(kind="mask", channels=(0, 2)), np.zeros((2, 3, 1, 4), dtype=np.int16))
    assert where.tolist() == [[[[True, False, True, False]]] * 3] * 2


def test_scores_of_large_maps_do_not_overflow():
    magnitudes = np.full((1, 200, 200, 2), 255, dtype=np.int16)
    magnitudes[0, 0, 0, 0] = 254
    where = winners(Select(kind="channels", count=1), magnitudes)
    assert where[0, 0, 0].tolist() == [False, True]


@pytest.mark.parametrize("select", [Select(kind="elements", count=2), Select(kind="channels", count=1)])
def test_no_image_has_no_winner(select):
    assert winners(select, np.zeros((0, 2, 2, 2), dtype=np.int16)).shape == (0, 2, 2, 2)


def test_of_what_is_selected_a_layer_multiplies_what_reaches_its_threshold():
    net = network({"branch": {"threshold": 5, "select": Select(kind="elements", count=3)}})
    activations = np.zeros((1, 3, 4, 4), dtype=np.int16)
    activations[0, 0, 0] = [-200, 4, 7, 3]
    where = active_mask(net.layer("branch"), activations, 0)
    assert [tuple(place) for place in np.argwhere(where)] == [(0, 0, 0, 0), (0, 0, 0, 2)]
    assert active_mask(net.layer("early"), activations, 0).sum() == 4


SELECTS = [
    None,
    Select(kind="elements", count=48),
    Select(kind="channels", count=4),
    Select(kind="mask", channels=(0, 1, 3)),
]


@pytest.mark.parametrize("select", SELECTS)
def test_selections_survive_json(select):
    net = network({"branch": {"select": select}, "hidden": {"select": Select(kind="channels", count=1)}})
    again = Network.from_dict(json.loads(json.dumps(net.to_dict())), dict(net.arrays()))
    assert [select_of(layer) for layer in again.layers] == [select_of(layer) for layer in net.layers]
    assert select_of(again.layer("branch")) == select
    assert select_of(again.layer("sum")) is None


def test_networks_from_before_selections_have_none():
    manifest = network().to_dict()
    for layer in manifest["layers"]:
        layer.pop("select", None)
    assert select_of(Network.from_dict(manifest, dict(network().arrays())).layer("stem")) is None


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("elements", "^branch: select must be a Select or None, not 'elements'$"),
        (Select(kind="rows", count=1), "^branch: select must be of elements, channels, mask, not 'rows'$"),
        (
            Select(kind="elements", count=0),
            r"^branch: the count of elements to select must be an integer in 1\.\.48, not 0$",
        ),
        (Select(kind="elements", count=49), r"^branch: the count of elements .* in 1\.\.48, not 49$"),
        (Select(kind="channels", count=5), r"^branch: the count of channels .* in 1\.\.4, not 5$"),
        (Select(kind="channels", count=True), r"^branch: the count of channels .* in 1\.\.4, not True$"),
        (
            Select(kind="channels", count=2, channels=(1,)),
            r"^branch: only a mask names channels, not channels: \(1,\)$",
        ),
        (Select(kind="mask", count=2, channels=(1,)), "^branch: a mask has no count to select, not 2$"),
        (
            Select(kind="mask"),
            r"^branch: the mask must name channels within 0\.\.3 in rising order, not \(\)$",
        ),
        (Select(kind="mask", channels=(1, 0)), r"^branch: the mask must name .* not \(1, 0\)$"),
        (Select(kind="mask", channels=(1, 1)), r"^branch: the mask must name .* not \(1, 1\)$"),
        (Select(kind="mask", channels=(4,)), r"^branch: the mask must name .* not \(4,\)$"),
        (Select(kind="mask", channels=(-1,)), r"^branch: the mask must name .* not \(-1,\)$"),
        (Select(kind="mask", channels=[1]), r"^branch: the mask must name .* not \[1\]$"),
    ],
)
def test_impossible_selections_are_refused(select, expected):
    with pytest.raises(ValueError, match=expected):
        network({"branch": {"select": select}})
