import numpy as np
import pytest

from hw.network.layers import Conv2D, DepthwiseConv2D
from models.integer import golden
from offramp.measure.workload_names import WORKLOADS
from offramp.measure.workloads import make


def macs(network) -> int:
    """Multiply-accumulates of the dense network, padded taps included."""
    total = 0
    for layer in network.layers:
        if hasattr(layer, "weight"):
            height, width, _ = layer.output.shape
            total += height * width * layer.weight.size
    return total


@pytest.mark.parametrize(
    ("name", "count", "weights"),
    [("resnet8-dense", 12_501_632, 77_360), ("ds-cnn", 2_656_768, 22_016), ("mobilenet-025", 7_489_664, 208_112)],
)
def test_shapes_are_those_of_mlperf_tiny(name, count, weights):
    network = make(name, 1).network
    assert macs(network) == count
    assert sum(layer.weight.size for layer in network.layers if hasattr(layer, "weight")) == weights


def test_depthwise_workloads_have_depthwise_layers():
    kinds = [isinstance(layer, DepthwiseConv2D) for layer in make("ds-cnn", 1).network.layers]
    assert sum(kinds) == 4


@pytest.mark.parametrize(("name", "share"), [("resnet8-w20", 0.2), ("resnet8-w10", 0.1)])
def test_weights_have_the_density_asked_for_unequally_over_filters(name, share):
    network = make(name, 1).network
    layers = [layer for layer in network.layers if hasattr(layer, "weight")]
    kept = sum(int((layer.weight != 0).sum()) for layer in layers)
    assert abs(kept / sum(layer.weight.size for layer in layers) - share) < 0.1 * share
    by_filter = (network.layer("c8").weight != 0).mean(axis=(1, 2, 3))
    assert by_filter.max() > 2 * by_filter.min() > 0


def test_other_images_than_those_of_calibration_have_about_the_same_densities():
    workload = make("resnet8-w20", 8, seed=3)
    tensors = golden.run(workload.network, workload.codes).tensors
    for name, shares in workload.activity.items():
        found = (tensors[name] != workload.network.tensors()[name].zero_point).mean()
        assert abs(found - shares.mean()) < 0.15, name


def test_equal_seeds_give_equal_workloads_and_other_seeds_others():
    one, same, other = (make("resnet8-w10", 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.codes, same.codes)
    for a, b, c in zip(one.network.arrays(), same.network.arrays(), other.network.arrays(), strict=True):
        np.testing.assert_array_equal(a[1], b[1])
        assert a[1].shape == c[1].shape
    assert (one.codes != other.codes).any()


def test_unknown_workloads_and_impossible_densities_are_refused():
    with pytest.raises(ValueError, match=f"^workload must be one of {', '.join(WORKLOADS)}, not 'resnet9'$"):
        make("resnet9", 1)
    with pytest.raises(ValueError, match=r"^weight density must be above 0 and at most 1, not 0$"):
        make("resnet8-w20", 1, weights=0)
    with pytest.raises(ValueError, match=r"^activation density must be above 0 and at most 1, not 1.5$"):
        make("resnet8-w20", 1, active=1.5)


def test_pads_are_those_of_tensorflow():
    """Of an odd sum the larger part lies below and to the right."""
    layers = make("resnet8-w20", 1).network.layers
    strided = [layer for layer in layers if isinstance(layer, Conv2D) and layer.stride == (2, 2)]
    assert {layer.pads for layer in strided if layer.weight.shape[1] == 3} == {(0, 1, 0, 1)}
