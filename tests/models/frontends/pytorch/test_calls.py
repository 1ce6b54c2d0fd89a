import pytest
import torch
from torch import nn

from models.compression.calibration import calibrate
from models.frontends.pytorch.calls import layout_of
from tests.models.frontends.nets import Call


@pytest.mark.parametrize(
    ("module", "shape", "layout"),
    [
        (nn.Sequential(nn.Conv2d(2, 4, (1, 3)), nn.Flatten(), nn.Linear(40, 3)), (1, 12, 2), (2, 1, 12)),
        (nn.Conv2d(2, 4, (1, 3)), (1, 12, 2), (2, 1, 12)),  # which takes 2 images (2, 12) for one
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(40, 3)), (1, 12, 2), (2, 12)),
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 3)), (1, 12, 2), (2, 1, 12)),  # alike in both
        (nn.Linear(24, 3), (1, 1, 24), (24,)),
    ],
)
def test_the_layout_that_a_module_takes(module, shape, layout):
    assert layout_of(module.eval(), shape) == layout


def test_a_module_that_takes_several_layouts_each_in_its_way_is_refused():
    """Whatever is chosen, it may be another than that which the module was trained with."""
    module = Call(lambda x: x.softmax(2).flatten(1))
    said = (
        r"^Call: images of one row must be computed in one layout, or alike in all, not otherwise as \(N, 3, 1, 4\) "
        r"than as \(N, 3, 4\): save the program of torch.export.export, which says what it takes$"
    )
    with pytest.raises(ValueError, match=said):
        layout_of(module, (1, 4, 3))
    assert layout_of(module, (2, 4, 3)) == (3, 2, 4)
    with pytest.raises(ValueError, match=said):
        calibrate(module, torch.rand(4, 1, 4, 3).numpy())


def test_a_module_of_chance_is_refused_as_that():
    with pytest.raises(ValueError, match=r"rand_like isn't among the operators|must be among .* not rand_like"):
        calibrate(Call(lambda x: (x + torch.rand_like(x)).flatten(1)), torch.rand(4, 1, 4, 3).numpy())
