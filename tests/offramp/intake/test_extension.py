import pytest

from hw.rules import MisfitError
from models import zoo
from models.integer import golden
from offramp.intake import extension
from offramp.intake.extension import extended
from offramp.intake.samples import parts


@pytest.fixture(scope="module")
def samples():
    return parts("digits", (8, 8, 1), seed=0)


def test_figures_are_of_the_same_images_without_and_with_the_exit(samples):
    network = zoo.load(zoo.entry("digits-dense")).dense
    layer = network.layers[1].name
    made = extended(network, layer, samples, "single", grid=2, exit_loss=0.01)
    codes, labels = samples[2].codes(network), samples[2].labels
    for found, described in ((network, made.before), (made.network, made.after)):
        result = golden.run(found, codes, keep=False)
        assert described["accuracy"] == result.accuracy(labels)
        assert described["exit_share"] == result.exit_share().tolist()
    assert made.after["cycles"]["mean"] < made.before["cycles"]["mean"]
    assert made.thresholds == [made.network.exits[0].threshold]
    assert set(made.activity) <= set(made.network.tensors())


def test_a_network_that_does_not_fit_is_refused_before_anything_is_trained(samples, monkeypatch):
    network = zoo.load(zoo.entry("digits-dense")).dense
    monkeypatch.setattr(extension, "with_branch", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(MisfitError, match=r"^tiny,activation_words=32: .*; it fits --config single$"):
        extended(network, network.layers[1].name, samples, "tiny,activation_words=32", grid=2, exit_loss=0.01)


@pytest.mark.parametrize(
    ("layer", "grid", "message"), [("gone", None, "an exit must be after one of"), (None, 3, "a grid of 3 must divide")]
)
def test_a_place_or_a_grid_that_cannot_be_is_refused_before_anything_is_measured(
    samples, monkeypatch, layer, grid, message
):
    network = zoo.load(zoo.entry("digits-dense")).dense
    monkeypatch.setattr(extension, "outcome", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(ValueError, match=message):
        extended(network, layer or network.layers[1].name, samples, "single", grid=grid, exit_loss=0.01)
