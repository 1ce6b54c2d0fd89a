import json

import pytest
import torch

from models.architectures import KINDS, describe, from_dict, initial
from models.methods.enresnet import EnResNetArchitecture
from models.nets import Architecture
from models.resnet8 import ResNet8Architecture

EXAMPLES = {
    "residual": Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2),
    "resnet8": ResNet8Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8, 8), exits=(1,), exit_widths=(4,)),
    "enresnet": EnResNetArchitecture(shape=(8, 8, 1), classes=10, widths=(4, 8, 8), members=3),
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
    with pytest.raises(ValueError, match="architecture's kind must be one of residual, resnet8, enresnet, not 'vgg'"):
        from_dict({"kind": "vgg"})
    with pytest.raises(ValueError, match="architecture is incomplete or has unknown keys"):
        from_dict({"kind": "resnet8", "shape": [8, 8, 1], "classes": 10, "depth": 3})
