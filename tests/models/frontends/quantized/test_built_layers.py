import pytest

from hw.network.network import INPUT, Add, Tensor
from models.frontends.quantized.built_layers import BuiltLayers


def add(name: str) -> Add:
    return Add(name=name, inputs=(INPUT, INPUT), output=Tensor(shape=(2, 2, 1), scale=0.5, zero_point=0))


def test_layers_get_names_of_their_own():
    """Also where the name with a number is one that a layer has from the start."""
    built = BuiltLayers()
    assert [built.add(add(name)) for name in ("a", "a_1", "a", "a", INPUT)] == ["a", "a_1", "a_2", "a_3", "input_1"]
    assert [layer.name for layer in built.layers] == ["a", "a_1", "a_2", "a_3", "input_1"]
    assert (built.free("a"), built.free("b")) == ("a_4", "b")


def test_tensors_are_found_by_name():
    built = BuiltLayers()
    with pytest.raises(AssertionError):
        built.tensor(INPUT)
    built.image = Tensor(shape=(4, 4, 1), scale=1.0, zero_point=-128)
    built.add(add("a"))
    assert (built.tensor(INPUT), built.tensor("a")) == (built.image, built.layers[0].output)
