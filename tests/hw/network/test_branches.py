import re
from dataclasses import replace

import pytest

from hw.network.branches import branch_index
from tests.hw.networks import network


def test_a_branch_reads_behind_its_layer():
    """Also behind a sum, and behind the layer before the last."""
    found = network()
    names = [layer.name for layer in found.layers]
    assert {name: branch_index(found, name) for name in ("stem", "branch", "sum", "hidden")} == {
        name: names.index(name) for name in ("stem", "branch", "sum", "hidden")
    }


@pytest.mark.parametrize("after", ["early", "head", "input", "", "no\nlayer"])
def test_behind_logits_the_last_layer_and_what_is_no_layer_there_is_no_place(after):
    expected = f"an exit must be after one of stem, branch, sum, mean, hidden, not after {after!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        branch_index(network(), after)


def test_between_a_layer_and_the_addition_behind_it_is_no_place():
    whole = network()
    stem, branch, early, *rest = whole.layers
    found = replace(whole, layers=(stem, early, branch, *rest))
    expected = "branch: an exit must not stand between a layer and the addition fused with it; nearest: sum"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        branch_index(found, "branch")
    with pytest.raises(ValueError, match=r"^an exit must be after one of stem, sum, mean, hidden, not after 'no'$"):
        branch_index(found, "no")


def test_a_layer_has_one_exit_of_its_own():
    whole = network()
    layers = [replace(layer, name="stem.exit") if layer.name == "early" else layer for layer in whole.layers]
    exits = (replace(whole.exits[0], logits="stem.exit"), *whole.exits[1:])
    found = replace(whole, layers=tuple(layers), exits=exits)
    with pytest.raises(ValueError, match=r"^stem: there is an exit after it already$"):
        branch_index(found, "stem")
    assert branch_index(found, "branch") == 1
