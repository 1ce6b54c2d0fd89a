import pytest
import torch
from torch import nn

from models.frontends.pytorch.functional import functional, images_taken
from tests.models.frontends.nets import Body, Call


def test_programs_of_too_many_images():
    program = torch.export.export(Body(nn.ReLU()).eval().to("meta"), (torch.rand(5000, 1, 6, 6, device="meta"),))
    with pytest.raises(ValueError, match=r"^a network must take at most 4096 images at once, not 5000$"):
        images_taken(program)


@pytest.mark.parametrize("function", [lambda x: torch.concat([x, x], 1), lambda x: x.clone().relu_()])
def test_a_program_is_made_functional_without_warnings(function):
    """PyTorch's own decompositions use what it has deprecated."""
    program = functional(torch.export.export(Call(function), (torch.zeros(1, 2, 3, 3),)))
    assert {str(node.target) for node in program.graph.nodes} & {"aten.cat.default", "aten.relu.default"}


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 3, 0, 4)])
def test_a_program_of_images_without_values_is_refused(shape):
    program = torch.export.export(nn.ReLU(), (torch.zeros(shape),))
    with pytest.raises(ValueError, match=r"^a network must take images that have values, one or more, not \("):
        images_taken(program)
