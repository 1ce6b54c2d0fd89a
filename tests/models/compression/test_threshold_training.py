import numpy as np
import pytest
import torch

from hw.network.layers import threshold_of
from models.compression.element_thresholds import element_thresholds_for, with_element_thresholds
from models.compression.fakequant import FakeQuantNet
from models.compression.quantize import encode, quantize, to_network
from models.compression.threshold_training import ElementThresholds
from models.frontends.pytorch.graph import lower
from models.integer import golden
from models.networks.architectures import initial
from models.recipes.registry import PIECES, Context
from models.training.hyperparameters import Schedule
from models.training.pieces import Piece
from models.training.train import fit, predict

LAYERS = {"early.first.conv": 0.3, "late.first.conv": 0.2}


def learnt(digits, model, epochs=2, extra=(), checkpoint=None):
    return quantize(
        model, digits.train, Schedule(epochs=epochs, lr=1e-3), seed=0, checkpoint=checkpoint,
        pieces=lambda twin: [ElementThresholds(LAYERS), *extra],
    )  # fmt: skip


def multiplied(network, name, images):
    """Share of a layer's input that reaches its threshold."""
    source = network.layer(name).inputs[0]
    values = golden.run(network, encode(images, network)).tensors[source].astype(int)
    return (np.abs(values - network.tensors()[source].zero_point) >= threshold_of(network.layer(name))).mean()


def test_twin_and_integers_skip_the_same(digits, trained):
    twin = learnt(digits, trained.model(), epochs=1)
    network = to_network(twin, "digits")
    assert {layer.name for layer in network.layers if threshold_of(layer) > 1} == set(LAYERS)
    images = digits.test.images
    found, expected = predict(twin, images)[-1].argmax(1), golden.run(network, encode(images, network)).logits[-1]
    assert (found == expected.argmax(1)).mean() > 0.99
    for name, density in LAYERS.items():
        assert multiplied(network, name, images) < density + 0.05


@pytest.mark.slow
def test_training_with_thresholds_brings_accuracy_back(digits, trained):
    """Thresholds put on the integers afterwards cost more than those that were learnt with."""
    plain = to_network(quantize(trained.model(), digits.train, Schedule(epochs=2, lr=1e-3), seed=0), "plain")
    afterwards = with_element_thresholds(
        plain, element_thresholds_for(plain, encode(digits.train.images[:256], plain), LAYERS)
    )
    network = to_network(learnt(digits, trained.model()), "learnt")
    few = {
        name: golden.run(found, encode(digits.test.images, found), keep=False).logits[-1].argmax(1)
        for name, found in (("afterwards", afterwards), ("learnt", network))
    }
    right = {name: (answers == digits.test.labels).mean() for name, answers in few.items()}
    assert right["learnt"] > right["afterwards"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_its_thresholds(digits, trained, tmp_path):
    class StopError(Exception):
        pass

    class Stop(Piece):
        stopping = True

        def before_epoch(self, run):
            if self.stopping and run.epoch == 1:
                raise StopError

    stop = Stop()
    with pytest.raises(StopError):
        learnt(digits, trained.model(), checkpoint=tmp_path / "run.off", extra=[stop])
    stop.stopping = False
    whole, again = (
        learnt(digits, trained.model(), checkpoint=path, extra=[stop]) for path in (None, tmp_path / "run.off")
    )
    for (name, array), (_, expected) in zip(
        to_network(again, "x").arrays(), to_network(whole, "x").arrays(), strict=True
    ):
        np.testing.assert_array_equal(array, expected, err_msg=name)
    piece = ElementThresholds(LAYERS)
    piece._twin = whole
    piece.load_state_dict({"thresholds": {"late.first.conv": 7}})
    assert threshold_of(to_network(whole, "x").layer("late.first.conv")) == 7
    assert piece.state_dict() == {"thresholds": {"late.first.conv": 7}}


def test_no_gradient_through_what_is_skipped(digits, trained):
    twin = FakeQuantNet(lower(trained.model().eval(), digits.shape))
    images = torch.from_numpy(digits.train.images[:64]).permute(0, 3, 1, 2)
    twin.train()(images)
    twin.set_thresholds({"late.first.conv": 255})
    twin.eval()(images / 2)[-1].sum().backward()  # at half the brightness none is as large as codes get
    node = next(node for node in twin.nodes if node.step.name == "late.first.conv")
    assert not node.weight.grad.any()
    assert node.bias.grad.any()


def test_wrong(digits, trained):
    with pytest.raises(ValueError, match=r"density of a must be in 0..1, not 1.5"):
        ElementThresholds({"a": 1.5})
    model = initial(trained.architecture, 0)
    with pytest.raises(ValueError, match="element thresholds are of a fake-quantized network, not of a ResidualNet"):
        fit(model, digits.train.take(64), Schedule(epochs=1, lr=0.1), seed=0, pieces=[ElementThresholds(LAYERS)])
    twin = FakeQuantNet(lower(model.eval(), digits.shape))
    for settings, message in (
        ({"nothing": 3}, "threshold of 'nothing': there is no step with weights of that name"),
        ({"early.add": 3}, "threshold of 'early.add': there is no step with weights of that name"),
        ({"stem.conv": 0}, r"threshold of stem.conv must be in 1..255, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            twin.set_thresholds(settings)
    make = PIECES["element-thresholds"]
    with pytest.raises(ValueError, match="element thresholds must be given to the fake-quantized network, in quantize"):
        make(Context(model=model, dataset=None, dense=model, stage="prune"), densities=LAYERS)
    with pytest.raises(ValueError, match=r"threshold of 'early\.add': there is no step with weights of that name"):
        make(Context(model=twin, dataset=None, dense=model, stage="quantize"), densities={"early.add": 0.5})
