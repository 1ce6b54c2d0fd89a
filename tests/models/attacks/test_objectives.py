import numpy as np
import pytest
import torch

from models.attacks import branch_loss, dlr_loss, final_loss, joint_loss, margin_loss, slowness

EARLY, FINAL = torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([[5.0, 3.0, 1.0]])
LABELS = torch.tensor([0])


def test_slowness_is_largest_for_uniform_outputs():
    uniform, peaked = torch.zeros(1, 10), torch.eye(10)[:1] * 5
    last = torch.rand(1, 10)
    labels = torch.zeros(1, dtype=torch.int64)
    assert slowness((uniform, last), labels).item() == pytest.approx(-np.log(10))
    assert slowness((peaked, last), labels) < slowness((uniform, last), labels)


def test_cross_entropies_look_at_their_heads():
    early, final = (-torch.log_softmax(head, 1)[0, 0].item() for head in (EARLY, FINAL))
    assert branch_loss((EARLY, FINAL), LABELS).item() == pytest.approx(early)
    assert final_loss((EARLY, FINAL), LABELS).item() == pytest.approx(final)
    assert joint_loss((EARLY, FINAL), LABELS).item() == pytest.approx((early + final) / 2)


@pytest.mark.parametrize(("label", "margin"), [(0, -2.0), (1, 2.0), (2, 4.0)])
def test_margins_are_positive_for_wrong_answers(label, margin):
    labels = torch.tensor([label])
    assert margin_loss((EARLY, FINAL), labels).item() == margin
    assert dlr_loss((EARLY, FINAL), labels).item() == pytest.approx(margin / 4)
    scaled = dlr_loss((EARLY, 1000 * FINAL), labels)
    assert scaled.item() == pytest.approx(margin / 4)
