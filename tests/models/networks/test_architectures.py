import json

import pytest
import torch

from models.networks.architectures import KINDS, describe, from_dict, initial, state_of
from models.networks.enresnet import EnResNetArchitecture
from models.networks.residual_net import Architecture
from models.networks.resnet8 import ResNet8Architecture
from models.networks.whitened import WhitenedArchitecture

EXAMPLES = {
    "residual": Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2),
    "resnet8": ResNet8Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8, 8), exits=(1,), exit_widths=(4,)),
    "enresnet": EnResNetArchitecture(shape=(8, 8, 1), classes=10, widths=(4, 8, 8), members=3),
    "whitened": WhitenedArchitecture(shape=(9, 9, 1), classes=10, widths=(4, 8, 8)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_name_everything(kind):
    described = json.loads(json.dumps(describe(EXAMPLES[kind])))
    assert described["kind"] == kind
    assert from_dict(described) == EXAMPLES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_what_they_say_and_equal_by_seed(kind):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (initial(EXAMPLES[kind], seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.architecture == EXAMPLES[kind]
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_unknown_kind():
    with pytest.raises(
        ValueError, match="architecture's kind must be one of residual, resnet8, enresnet, whitened, not 'vgg'"
    ):
        from_dict({"kind": "vgg"})
    with pytest.raises(ValueError, match="architecture: 'depth' is unknown: settings are shape, classes"):
        from_dict({"kind": "resnet8", "shape": [8, 8, 1], "classes": 10, "depth": 3})
    with pytest.raises(ValueError, match=r"architecture's kind must be one of .*, not \['vgg'\]"):
        from_dict({"kind": ["vgg"]})
    with pytest.raises(ValueError, match="architecture must be a table, not 'vgg'"):
        from_dict("vgg")


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([10**9, 8, 8], "widths must be 3 whole numbers from 1 to 4088, not"),
        ([4088, 4088, 4088], "architecture must have at most 16,777,216 parameters, not [0-9,]+"),
        (["8", 8, 8], "architecture: widths must be a whole number, not '8'"),
        ([8.5, 8, 8], "architecture: widths must be a whole number, not 8.5"),
    ],
)
def test_hostile_sizes_are_refused_before_any_memory_is_taken(widths, message):
    with pytest.raises(ValueError, match=message):
        from_dict({"kind": "resnet8", "shape": [32, 32, 3], "classes": 10, "widths": widths})


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_known_without_making_it(kind):
    state = initial(EXAMPLES[kind], 0).state_dict()
    found = state_of(EXAMPLES[kind])
    assert {name: (value.shape, value.dtype) for name, value in state.items()} == {
        name: (value.shape, value.dtype) for name, value in found.items()
    }
    assert all(value.is_meta for value in found.values())
