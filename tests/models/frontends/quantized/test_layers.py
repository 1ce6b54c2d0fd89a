"""What becomes of steps: which layers, their names, codes that are passed on, heads in codes and in accumulators."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hw.compiler.compile import compile_network
from hw.config import preset
from models.frontends.quantized import layers
from models.frontends.quantized.reader import import_quantized
from models.frontends.quantized.weights import in_one_scale
from models.integer import golden
from tests.models.frontends.quantized.quantized_programs import (
    QD,
    Quantized,
    conv,
    difference,
    head,
    images,
    kinds,
    several_scales,
    written,
)


@pytest.mark.parametrize(("scales", "parts"), [([1, 0.5, 2], 4), ([1, 1.31, 0.77], 4), ([3, 2, 1], 3)])
def test_logits_of_weights_with_several_scales_are_in_steps_of_one(scales, parts):
    """As X86's and Brevitas' quantizers write them, which leave the output as it is; exact where one scale divides."""

    def body(net, x):
        return F.linear(net.round(x).flatten(1), several_scales(scales), torch.tensor([0.1, -2, 3]))

    net = Quantized(body).eval()
    found = import_quantized(net, (4, 4, 2))
    head = found.network.layers[-1]
    assert (head.raw, head.name) == (True, "linear")
    assert head.output.scale == pytest.approx(max(scales) / 100 / parts * 0.05)
    assert bool(found.notes) == (scales[1] == 1.31)
    off = difference(net, found.network, images(4, 4, 2))["linear"].largest
    assert off <= 1 if not found.notes else 1 < off < 2000
    given = images(4, 4, 2)
    with torch.no_grad():
        expected = net(torch.from_numpy(given.transpose(0, 3, 1, 2).copy())).numpy()
    codes = np.rint(given / np.float32(0.05)).clip(-128, 127).astype(np.int8)
    made = golden.run(found.network, codes).logits[0].reshape(expected.shape) * head.output.scale
    assert np.abs(made - expected).max() < 0.01 * np.abs(expected).max()
    compile_network(found.network, preset("base-85f"))


def twice_rounded(net, x):
    """A map on two scales, added up."""
    x = conv(net, net.round(x))
    return head(net, net.round(net.round(x, 0.1) + net.round(x, 0.3, 2), 0.2))


def normalized(net, x):
    """A batch norm behind a convolution."""
    mean, variance, gain = torch.arange(4) / 9, torch.arange(1.0, 5), torch.tensor([1, -1, 0.2, 2])
    return head(net, net.round(F.relu(F.batch_norm(conv(net, net.round(x)), mean, variance, gain))))


@pytest.mark.parametrize(
    ("body", "layers"),
    [
        (lambda n, x: head(n, n.round(x)), {"linear": "linear"}),
        (lambda n, x: head(n, n.round(n.round(x))), {"linear": "linear"}),  # passed on
        (  # a pool of single positions leaves some out, whose codes the others keep
            lambda n, x: head(n, F.max_pool2d(F.avg_pool2d(n.round(x), 1, (1, 2)), 1, (2, 1))),
            {"pool": "depthwise_conv2d", "max_pool": "depthwise_conv2d", "linear": "linear"},
        ),
        (lambda n, x: n.round(head(n, n.round(x)).softmax(1), 1 / 256, -128), {"linear": "linear"}),
        (lambda n, x: n.round(x).flatten(1) @ n.weight(3, 32).t() + torch.ones(3), {"linear": "linear"}),
        (lambda n, x: torch.addmm(torch.ones(3), n.round(x).flatten(1), n.weight(32, 3)), {"linear": "linear"}),
        (
            lambda n, x: head(n, n.round(x, bounds=(-100, 90))),
            {"input.clamp": "depthwise_conv2d", "linear": "linear"},
        ),
        (lambda n, x: head(n, n.round(n.round(x), 0.1)), {"quantize": "depthwise_conv2d", "linear": "linear"}),
        (  # what rounds and what compares values commute
            lambda n, x: head(n, n.round(F.max_pool2d(F.relu(conv(n, n.round(x))), 2), 0.1, 5)),
            {"conv2d": "conv2d", "max_pool": "max_pool2d", "linear": "linear"},
        ),
        (  # as do a clamp and a rounding to the same codes
            lambda n, x: head(n, n.round(F.relu(n.round(conv(n, n.round(x)), 0.1, 5)), 0.1, 5)),
            {"conv2d": "conv2d", "linear": "linear"},
        ),
        (
            lambda n, x: head(n, n.round(F.relu(torch.cat([conv(n, n.round(x)), n.round(x)], 1)), 0.07)),
            {
                "conv2d": "conv2d", "concat.part0": "conv2d", "concat.part1": "conv2d", "concat": "add",
                "linear": "linear",
            },
        ),
        (  # rows, then columns, of maps on other scales
            lambda n, x: head(n, n.round(torch.cat([
                n.round(torch.cat([n.round(conv(n, n.round(x), 2), 0.07), n.round(x)], 2)),
                n.round(torch.cat([n.round(x), n.round(x)], 2)),
            ], 3))),
            {
                "conv2d": "conv2d", "concat.part0": "depthwise_conv2d", "concat.part1": "depthwise_conv2d",
                "concat": "add", "concat_1.part0": "depthwise_conv2d", "concat_1.part1": "depthwise_conv2d",
                "concat_1": "add", "concat_2.part0": "depthwise_conv2d", "concat_2.part1": "depthwise_conv2d",
                "concat_2": "add", "linear": "linear",
            },
        ),
        (  # flat maps of other sizes, one after the other
            lambda n, x: head(n, n.round(torch.cat([
                n.round(conv(n, n.round(x), 3), 0.07).flatten(1), F.max_pool2d(n.round(x), 2).flatten(1),
            ], 1))),
            {
                "input.copy": "depthwise_conv2d", "conv2d": "conv2d", "flat": "linear", "max_pool": "max_pool2d",
                "flat_1": "linear", "concat.part0": "conv2d", "concat.part1": "conv2d", "concat": "add",
                "linear": "linear",
            },
        ),
        (  # maps side by side, averaged before they are rounded
            lambda n, x: head(
                n, n.round(torch.cat([n.round(conv(n, n.round(x)), 0.03), n.round(x)], 1).mean((2, 3)), 0.01)
            ),
            {
                "conv2d": "conv2d", "pool.of0": "depthwise_conv2d", "pool.of1": "depthwise_conv2d",
                "pool.part0": "conv2d", "pool.part1": "conv2d", "pool": "add", "linear": "linear",
            },
        ),
        (  # a mean that isn't rounded becomes part of the layer that reads it
            lambda n, x: head(n, F.relu(n.round(conv(n, n.round(x)), 0.1)).mean((2, 3))),
            {"conv2d": "conv2d", "linear": "linear"},
        ),
        (lambda n, x: n.round(conv(n, n.round(x)), 0.1, 9).mean((2, 3)), {"conv2d": "conv2d", "pool": "linear"}),
        (  # computed once, rounded twice
            twice_rounded,
            {"conv2d": "conv2d", "conv2d_1": "conv2d", "add": "add", "linear": "linear"},
        ),
        (  # batch norm behind weights that are integers: their scales change
            normalized,
            {"conv2d": "conv2d", "linear": "linear"},
        ),
        (  # constants right behind a layer with weights become part of it
            lambda n, x: head(n, n.round((conv(n, n.round(x)) - torch.ones(4, 1, 1)) / torch.tensor(-2.0) * 3 + 0.5)),
            {"conv2d": "conv2d", "linear": "linear"},
        ),
        (  # those behind a map are a layer of their own
            lambda n, x: head(n, n.round(1 - n.round(x) * torch.tensor([1.5, 0])[:, None, None], 0.03)),
            {"affine": "depthwise_conv2d", "linear": "linear"},
        ),
        (
            lambda n, x: head(n, n.round(F.batch_norm(n.round(x), torch.ones(2), torch.arange(1.0, 3)).relu(), 0.02)),
            {"affine": "depthwise_conv2d", "linear": "linear"},
        ),
        (  # the codes of a head with a scale for each channel
            lambda n, x: n.round(head(n, n.round(x), per_channel=True)).softmax(1),
            {"linear": "linear", "linear.codes": "linear"},
        ),
        (  # a convolution over its whole map is a linear layer
            lambda n, x: F.conv2d(n.round(x), n.weight(3, 2, 4, 4)).flatten(1).log_softmax(-1),
            {"conv2d": "linear"},
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.int8, pytest.param(torch.uint8, marks=pytest.mark.slow)])
def test_what_is_written_down(body, layers, dtype):
    if dtype == torch.uint8:
        signed, offset = body, 128

        def body(net, x):
            own = net.q, net.dq
            net.q, net.dq = (
                lambda x, scale=0.05, zero=0, bounds=None, f=f: f(
                    x, scale, zero + offset, bounds and tuple(bound + offset for bound in bounds)
                )
                for f in own
            )
            result = signed(net, x)
            net.q, net.dq = own
            return result

    network, found = written(body, dtype)
    assert kinds(network) == layers
    most = {"linear": np.inf, "add": 2}  # of raw logits, steps of accumulators; of a sum, a code of each operand
    assert all(each.largest <= most.get(layers[name], 1) for name, each in found.items())


def test_a_layer_whose_codes_are_read_with_and_without_a_clamp_is_computed_once():
    def body(net, x):
        x = net.round(conv(net, net.round(x)), 0.1)
        return head(net, x), head(net, net.round(F.relu(x), 0.1))

    network, _ = written(body)
    assert kinds(network) == {
        "conv2d": "conv2d", "linear": "linear", "quantize_1": "depthwise_conv2d", "linear_1": "linear",
    }  # fmt: skip


def test_equal_codes_give_equal_logits():
    """Of layers that are only moved, clamped or compared nothing differs."""
    _, found = written(lambda n, x: head(n, n.round(F.max_pool2d(torch.cat([n.round(x), n.round(x)], 1), 2))))
    assert {each.largest for each in found.values()} == {0}


def test_an_image_that_one_layer_rounds_is_codes_for_those_that_read_it_in_float():
    """As PT2E leaves it where a pool reads the image, which rounds only what the pool gives."""

    def body(net, x):
        pooled = net.round(F.avg_pool2d(x, 3, 1, 1), 0.04)
        return head(net, net.round(torch.cat([net.round(conv(net, net.round(x))), pooled], 1)))

    network, found = written(body)
    assert network.layer("pool").inputs == ("input",)
    assert max(each.largest for name, each in found.items() if name != "linear") <= 1


def test_biases_of_integers_are_kept():
    bias = torch.tensor([100, -70000, 3], dtype=torch.int32)

    def body(net, x):
        what = QD.dequantize_per_tensor(bias, 0.05 * 0.01, 0, -(2**31), 2**31 - 1, torch.int32)
        return F.linear(net.round(x).flatten(1), net.weight(3, 32), what)

    network, _ = written(body)
    np.testing.assert_array_equal(network.layers[-1].bias, bias)


def test_an_output_of_fewer_values_gets_logits_that_are_never_the_largest():
    def body(net, x):
        x = net.round(conv(net, net.round(x)))
        return head(net, x), F.linear(x.flatten(1), net.weight(5, 64, seed=1))

    network, _ = written(body)
    assert network.classes == 5
    codes = np.random.default_rng(2).integers(-128, 128, (16, 4, 4, 2)).astype(np.int8)
    first, second = (logits.reshape(-1, 5) for logits in golden.run(network, codes).logits)
    assert (first[:, 3:] < first[:, :3].max(axis=1, keepdims=True)).all()
    assert (second[:, 3:] >= first[0, 3]).any()


@pytest.mark.parametrize("beyond", [0, 8])
def test_a_wrong_weight_is_found_where_a_head_has_been_rounded_to_one_scale(monkeypatch, beyond):
    """What rounding changes on the images that are compared is much less than it may change in all."""

    def rounded(codes, scales):
        found, scale, off = in_one_scale(codes, scales)
        found[0, 0, 0, 0] += beyond
        return found, scale, off

    monkeypatch.setattr(layers, "in_one_scale", rounded)
    net = Quantized(lambda n, x: F.linear(n.round(x).flatten(1), several_scales([1, 1.31, 0.77])))
    if not beyond:
        import_quantized(net, (4, 4, 2))
        return
    with pytest.raises(ValueError, match=r"^linear: .*.* up to \d+ codes, but differs by \d+; please "):
        import_quantized(net, (4, 4, 2))
