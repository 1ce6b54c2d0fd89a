import pytest

from hw.config import preset
from models import zoo
from models.integer import golden
from offramp.intake.extension import extended
from offramp.intake.samples import parts


@pytest.fixture(scope="module")
def samples():
    return parts("digits", (8, 8, 1), seed=0)


def test_figures_are_of_the_same_images_without_and_with_the_exit(samples):
    network = zoo.load(zoo.entry("digits-dense")).dense
    layer = network.layers[1].name
    made = extended(network, layer, samples, preset("single"), grid=2, exit_loss=0.01)
    codes, labels = samples[2].codes(network), samples[2].labels
    for found, described in ((network, made.before), (made.network, made.after)):
        result = golden.run(found, codes, keep=False)
        assert described["accuracy"] == result.accuracy(labels)
        assert described["exit_share"] == result.exit_share().tolist()
    assert made.after["cycles"]["mean"] < made.before["cycles"]["mean"]
    assert made.thresholds == [made.network.exits[0].threshold]
    assert set(made.activity) <= set(made.network.tensors())
