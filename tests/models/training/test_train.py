import numpy as np
import pytest
import torch

from models.datasets.splits import Split
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.standard_pieces import FixedMask
from models.training.train import Schedule, accuracy, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
SHORT = Schedule(epochs=2, lr=0.01, shift=1, flip=True)


@pytest.fixture(scope="module")
def few(digits):
    return digits.train.take(200)


def state(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def test_equal_seeds_give_equal_weights(few):
    models = [initial(ARCHITECTURE, seed) for seed in (1, 1, 2)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.rand(seed)  # torch's own generator has no influence
        fit(model, few, SHORT, seed=seed)
    first, again, other = map(state, models)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)
    assert (first["stem.conv.weight"] != other["stem.conv.weight"]).any()


def test_training_leaves_the_number_of_threads_and_torchs_generator_alone(few):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(initial(ARCHITECTURE, 0), few, SHORT, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_it_learns_both_heads(digits, trained):
    branch, final = predict(trained.model(), digits.test.images)
    assert accuracy(final, digits.test.labels) > 0.95
    assert accuracy(branch, digits.test.labels) > 0.85


def test_progress_counts_steps(few):
    reports = []
    fit(initial(ARCHITECTURE, 0), few, SHORT, seed=0, progress=lambda *report: reports.append(report), text="learn")
    assert [report[:2] for report in reports] == [(n, 8) for n in range(1, 9)]
    assert reports[-1][2].startswith("learn: epoch 2/2, loss ")


def test_masked_weights_stay_zero(few):
    model = initial(ARCHITECTURE, 0)
    mask = (torch.arange(model.late.second.conv.weight.numel()) % 3 == 0).float().view_as(model.late.second.conv.weight)
    fit(model, few, SHORT, seed=0, pieces=[FixedMask({"late.second.conv.weight": mask})])
    assert (model.late.second.conv.weight[mask == 0] == 0).all()
    assert (model.late.second.conv.weight[mask == 1] != 0).all()


def test_unknown_mask(few):
    with pytest.raises(ValueError, match="mask 'nothing' has no parameter of that name"):
        fit(initial(ARCHITECTURE, 0), few, SHORT, seed=0, pieces=[FixedMask({"nothing": torch.ones(1)})])


def test_a_loss_that_is_no_number_stops_training(few):
    broken = Split(images=np.full_like(few.images, np.nan), labels=few.labels)
    with pytest.raises(FloatingPointError, match="learn: the loss became nan in epoch 1, step 1"):
        fit(initial(ARCHITECTURE, 0), broken, SHORT, seed=0, text="learn")


def test_predict_keeps_the_order(digits, trained):
    whole = predict(trained.model(), digits.train.images)
    part = predict(trained.model(), digits.train.images[700:710])
    assert whole[0].shape == (len(digits.train), 10)
    for all_logits, logits in zip(whole, part, strict=True):
        np.testing.assert_allclose(all_logits[700:710], logits, atol=1e-4)
