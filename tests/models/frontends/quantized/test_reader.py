import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.config import preset
from hw.network.network import Network
from models.frontends.quantized import layers, operators
from models.frontends.quantized.reader import import_quantized, read_quantized
from models.frontends.quantized.weights import in_one_scale
from models.integer import golden
from tests.models.frontends.quantized.quantized_programs import (
    QD,
    Block,
    Quantized,
    RandomNet,
    converted,
    core,
    difference,
    images,
    seeded,
)

#: On images of its own a layer's codes may differ by more than one where those that it reads differ.
SHARE = 0.1


def read(program, *shape, most=3):
    """The network of a program, found to compute what the program does but for a few codes."""
    network = read_quantized(program, shape if isinstance(program, nn.Module) else None)
    found = difference(program, network, images(*shape))
    assert all(each.largest <= most and (each.share <= SHARE or each.largest <= 1) for each in found.values()), found
    return network


def kinds(network: Network) -> dict[str, str]:
    return {layer.name: layer.kind for layer in network.layers}


def test_a_residual_network_with_one_scale_for_all_channels():
    network = read(converted(seeded(Block), 3, 8, 8, per_channel=False), 8, 8, 3)
    assert kinds(network) == {
        "stem.conv2d": "conv2d",
        "first.conv2d": "conv2d",
        "second.conv2d": "conv2d",
        "short.conv2d": "conv2d",
        "add": "add",
        "pool": "global_average_pool",
        "linear.linear": "linear",
    }
    assert (network.classes, network.layers[-1].raw) == (5, True)
    compile_network(network, preset("base"))


def test_a_head_with_a_scale_for_each_channel_gives_the_programs_codes():
    program = converted(seeded(Block), 3, 8, 8)
    network = read(program, 8, 8, 3)
    head, last = network.layers[-1], network.layers[-2]
    assert (last.name, head.name, head.inputs) == ("linear.linear", "linear.linear.codes", ("linear.linear",))
    pictures = images(8, 8, 3, count=4)
    codes = np.rint(pictures / network.input.scale).clip(-999, 999) + network.input.zero_point
    found = golden.run(network, codes.clip(-128, 127).astype(np.int8))
    with torch.no_grad():
        expected = torch.cat([program.module()(torch.from_numpy(one[None])) for one in pictures.transpose(0, 3, 1, 2)])
    np.testing.assert_allclose(found.logits[0] * last.output.scale, expected, atol=1.001 * last.output.scale)


def several_scales(scales):
    """Weights of 32 inputs and 3 outputs, with a scale for each of these in hundredths."""
    codes = torch.from_numpy(np.random.default_rng(3).integers(-127, 128, (3, 32)).astype(np.int8))
    units, zeros = torch.tensor(scales) / 100, torch.zeros(3, dtype=torch.int64)
    return QD.dequantize_per_channel(codes, units, zeros, 0, -127, 127, torch.int8)


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
    compile_network(found.network, preset("base"))


class Mobile(nn.Module):
    """Depthwise with and without a multiplier, groups, dilation, clamps, dropout, a convolution as classifier."""

    def __init__(self):
        super().__init__()
        self.stem, self.group = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.own = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.more, self.last = nn.Conv2d(16, 32, 3, groups=16), nn.Conv2d(32, 6, 1)

    def forward(self, x):
        x = F.hardtanh(self.group(F.relu6(self.stem(x))), -0.3, 0.4)
        x = F.adaptive_avg_pool2d(self.more(F.relu(self.own(x))), 1)
        return self.last(F.dropout(x, training=self.training)).flatten(1)


def test_depthwise_groups_and_clamps():
    network = read(converted(seeded(Mobile), 3, 8, 8), 8, 8, 3, most=4)
    found = kinds(network)
    assert found["own.conv2d"] == "depthwise_conv2d"
    assert found["more.conv2d"] == found["group.conv2d"] == "conv2d"
    assert network.layer("more.conv2d").weight.astype(bool).mean() < 1 / 15
    assert network.layer("own.conv2d").weight.shape == (16, 5, 5, 1)


class Sums(nn.Module):
    """Sums that no convolution stands before, and maps side by side."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(16 * 4, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + x
        y = x + self.inner(x)
        z = y + x
        z = z + y
        z = torch.cat([z, F.max_pool2d(z, 3, 1, 1)], 1)
        return F.softmax(self.linear(F.avg_pool2d(F.max_pool2d(z, 2), 2).flatten(1)), 1)


def test_sums_of_sums_and_concatenation():
    network = read(converted(seeded(Sums), 3, 8, 8, per_channel=False), 8, 8, 3)
    assert list(kinds(network).values()).count("add") == 4  # x + x is a gain
    compile_network(network, preset("base"))


@pytest.mark.parametrize(
    ("build", "shape", "values"),
    [
        (lambda: nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 40)), (40,), 40),
        (lambda: nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid()), (40,), 2),
        (
            lambda: nn.Sequential(
                nn.Conv1d(2, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv1d(8, 8, 3, padding="same", dilation=2),
                nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3),
            ),
            (2, 32),
            3,
        ),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)), (1, 6, 6), 36),
    ],
    ids=["autoencoder", "one output", "conv1d", "map"],
)  # fmt: skip
def test_networks_that_are_no_image_classifiers(build, shape, values):
    channels, rows, columns = (*shape, 1, 1)[:3] if len(shape) != 2 else (shape[0], 1, shape[1])
    network = read(converted(seeded(build), *shape), rows, columns, channels)
    assert network.classes == values


def conv(net, x, channels=4, depth=2, kernel=3, **values):
    """A convolution that keeps the map's size."""
    return F.conv2d(x, net.weight(channels, depth, kernel, kernel, **values), None, padding=kernel // 2)


def head(net, x, **values):
    """Three logits."""
    return F.linear(x.flatten(1), net.weight(3, math.prod(x.shape[1:]), **values))


def twice_rounded(net, x):
    """A map on two scales, added up."""
    x = conv(net, net.round(x))
    return head(net, net.round(net.round(x, 0.1) + net.round(x, 0.3, 2), 0.2))


def normalized(net, x):
    """A batch norm behind a convolution."""
    mean, variance, gain = torch.arange(4) / 9, torch.arange(1.0, 5), torch.tensor([1, -1, 0.2, 2])
    return head(net, net.round(F.relu(F.batch_norm(conv(net, net.round(x)), mean, variance, gain))))


def written(body, dtype=torch.int8, shape=(4, 4, 2), name="network"):
    """The network of what is written down, and how it differs on codes of all values."""
    net = Quantized(body, dtype)
    network = read_quantized(net, shape, name=name)
    return network, difference(net, network, images(*shape) * 2)


@pytest.mark.parametrize(
    ("body", "layers"),
    [
        (lambda n, x: head(n, n.round(x)), {"linear": "linear"}),
        (lambda n, x: head(n, n.round(n.round(x))), {"linear": "linear"}),  # passed on
        (lambda n, x: n.round(head(n, n.round(x)).softmax(1), 1 / 256, -128), {"linear": "linear"}),
        (lambda n, x: n.round(x).flatten(1) @ n.weight(3, 32).t() + torch.ones(3), {"linear": "linear"}),
        (lambda n, x: torch.addmm(torch.ones(3), n.round(x).flatten(1), n.weight(32, 3)), {"linear": "linear"}),
        (
            lambda n, x: head(n, n.round(x, limits=(-100, 90))),
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
                lambda x, scale=0.05, zero=0, limits=None, f=f: f(
                    x, scale, zero + offset, limits and tuple(limit + offset for limit in limits)
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


def test_weights_with_a_zero_point_are_exact():
    codes = torch.from_numpy(np.random.default_rng(0).integers(10, 250, (3, 32)).astype(np.uint8))

    def body(zero_point):
        return lambda n, x: F.linear(
            n.round(x).flatten(1), QD.dequantize_per_tensor(codes, 0.01, zero_point, 0, 255, torch.uint8)
        )

    network, _ = written(body(130))
    np.testing.assert_array_equal(network.layers[-1].weight.transpose(0, 3, 1, 2).reshape(3, 32), codes.int() - 130)


def test_weights_beyond_int8_are_sums_of_weights_of_copies():
    """Of uint8 with a zero point near an end, as uint8 quantizers write them; of 16 bits they are refused."""

    def weight(*shape, zero_point=3, dtype=torch.uint8, most=255):
        codes = np.random.default_rng(0).integers(0, most, shape)
        codes.flat[0] = most
        codes = torch.from_numpy(codes.astype(np.int16)).to(dtype)
        return QD.dequantize_per_tensor(codes, 0.01, zero_point, 0, most, dtype)

    def body(net, x):
        x = net.round(F.conv2d(net.round(x), weight(4, 2, 3, 3)), 0.3)
        x = net.round(F.conv2d(x, weight(4, 1, 2, 2, zero_point=250), groups=4), 0.9)
        return F.linear(x.flatten(1), weight(3, 4, zero_point=0))

    network, found = written(body)
    assert [layer.name for layer in network.layers if layer.name.endswith(".copies")] == [
        "conv2d.copies", "conv2d_1.copies", "linear.copies",
    ]  # fmt: skip
    assert network.layer("linear").weight.shape[3] == 3 * 4
    assert max(each.largest for name, each in found.items() if name != "linear") <= 1
    with pytest.raises(
        ValueError, match=r"^linear: weights must be of 8 bits, 255 from their zero point at most, not 3"
    ):
        written(lambda n, x: F.linear(n.round(x).flatten(1), weight(3, 32, zero_point=0, dtype=torch.int16, most=300)))


def test_several_outputs_are_exits_that_are_never_taken_early():
    def body(net, x):
        x = net.round(conv(net, net.round(x)))
        return head(net, x), head(net, net.round(conv(net, x, depth=4)))

    network, found = written(body, name="two")
    assert [(each.logits, each.threshold) for each in network.exits] == [("linear", (1 << 32) - 1), ("linear_1", None)]
    assert [layer.name for layer in network.layers] == ["conv2d", "linear", "conv2d_1", "linear_1"]
    assert network.name == "two"
    assert found.keys() == {"conv2d", "linear", "conv2d_1", "linear_1"}


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


def test_an_image_of_integers_is_codes():
    def body(net, x):
        return head(net, net.round(conv(net, net.dq(x, 0.05, 3))))

    program = torch.export.export(Quantized(body), (torch.zeros(1, 2, 4, 4, dtype=torch.int8),))
    network = read_quantized(program)
    assert (network.input.scale, network.input.zero_point) == (pytest.approx(0.05), 3)
    codes = np.random.default_rng(0).integers(-128, 128, (5, 4, 4, 2)).astype(np.int8)
    assert all(each.largest <= 1 for name, each in difference(program, network, codes).items() if name != "linear")


def test_programs_of_core_operators_are_the_same_networks():
    program = converted(seeded(Block), 3, 8, 8)
    before, after = (read_quantized(each) for each in (program, core(program)))
    assert [type(layer) for layer in after.layers] == [type(layer) for layer in before.layers]
    for (_, one), (_, other) in zip(before.arrays(), after.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_programs_of_several_images_and_of_any_number():
    program = torch.export.export(
        Quantized(lambda n, x: head(n, n.round(x))),
        (torch.zeros(4, 2, 4, 4),),
    )
    many = torch.export.export(
        Quantized(lambda n, x: head(n, n.round(x))),
        (torch.zeros(4, 2, 4, 4),),
        dynamic_shapes={"x": {0: torch.export.Dim.AUTO}},
    )
    for each in (program, many):
        network = read_quantized(each)
        assert difference(each, network, images(4, 4, 2, count=6))["linear"].largest == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda n, x: head(n, conv(n, n.round(x))), "^conv2d: what a layer computes must be quantized before the next"),
        (
            head,
            "^the image must be quantized before anything else reads it, as Brevitas. QuantIdentity does: what",
        ),
        (lambda n, x: F.linear(n.round(x).flatten(1), torch.ones(3, 32)), "^linear: weights must be dequantized from "),
        (lambda n, x: conv(n, n.round(x)), "^conv2d: an output must be a linear layer or be quantized, not a conv as"),
        (
            lambda n, x: head(n, n.round(torch.cat([n.round(x).flatten(2), n.round(x).flatten(2)], 1))),
            r"^cat: maps must be put together by their channels, rows or columns, or be flat, not \(2, 1, 16\), .* 1",
        ),
        (
            lambda n, x: head(n, n.round(torch.cat([n.round(conv(n, n.round(x), 200)).flatten(1), n.round(x).flatten(1),
                                                    F.max_pool2d(n.round(x), 2).flatten(1)], 1))),
            "^cat: maps that are flattened to be put together must have at most 2048 values, not 3200",
        ),
        (
            lambda n, x: head(n, n.round(F.avg_pool2d(F.relu6(n.round(x, 0.07)), 2))),
            "^clip: what a layer computes must be quantized before the next",
        ),
        (
            lambda n, x: head(n, n.round(F.hardtanh(conv(n, n.round(x)), 0.5, 2))),
            r"^conv2d: clamp \(10, 40\) must contain the zero point 0",
        ),
        (
            lambda n, x: head(n, n.round(torch.cat([n.round(x), n.round(x, 0.1)], 1))),
            "^the image must be quantized once, not with scales 0.05.* and 0.1",
        ),
        (lambda n, x: head(n, n.dq(n.q(x), 0.1)), "^dequantize_per_tensor: a map must be dequantized as it was"),
        (
            lambda n, x: head(n, n.round(torch.sigmoid(conv(n, n.round(x))))),
            "^order: what only keeps the order of values must be at the end of a network",
        ),
        (
            lambda n, x: head(n, n.round(F.gelu(n.round(x)))),
            "^gelu: gelu isn't among the operators: ReLU and ReLU6 are the nearest",
        ),
        (lambda n, x: head(n, n.round(n.round(x) * x.mean())), "^mean: operators must be among"),
        (lambda n, x: head(n, n.round(1 / n.round(x))), "^reciprocal: operators must be among"),
        (lambda n, x: head(n, n.round(n.round(x) / 0)), "^div: div must divide a map by constants other than 0"),
        (
            lambda n, x: head(n, n.round(n.round(x) * n.round(x))),
            "^mul: mul must be of a map and constants, not of two maps as in squeeze-and-excitation and other gates: "
            "leave the gate out",
        ),
        (
            lambda n, x: head(n, n.round(n.round(x) * n.round(F.hardsigmoid(n.round(x))))),
            "^mul: Hardswish isn't among the operators: ReLU and ReLU6 are the nearest",
        ),
        (
            lambda n, x: head(n, n.round(F.hardswish(n.round(x)))),
            "^hardswish: hardswish isn't among the operators: ReLU and ReLU6 are the nearest",
        ),
        (lambda n, x: head(n, n.round(n.round(x) + torch.ones(4))), "^add: constants must be one for each"),
        (lambda n, x: head(n, n.round(n.round(x) * 100)), "^affine: the scale of input times weights must be below"),
        (
            lambda n, x: F.linear(n.round(x).flatten(1), n.weight(3, 32), torch.full((3,), 1e9)),
            r"^linear: biases must be within int32 in steps of the accumulator, not 2e\+12",
        ),
        (lambda n, x: torch.ones(1, 3), "^ones: an output must depend on the image"),
        (lambda n, x: n.round(x), "^an output must be computed, not be the image"),
        (lambda n, x: (), "must return"),
        (
            lambda n, x: head(n, n.round(n.round(x, 0.1), 0.001)),
            "^quantize: a map's scale must be less than 64 times that of what it becomes",
        ),
        (
            lambda n, x: head(n, n.round(conv(n, n.round(x)), 0.0004)),
            "^conv2d: the scale of input times weights must be below that of the output, not 1.25 times it",
        ),
        (
            lambda n, x: head(n, QD.dequantize_per_tensor(
                QD.quantize_per_tensor(x, 0.05, 0, -32768, 32767, torch.int16), 0.05, 0, -32768, 32767, torch.int16
            )),
            "^quantize_per_tensor: maps must be of int8 or uint8, not torch.int16 of -32768..32767",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_followed_is_refused(body, message):
    with pytest.raises(ValueError, match=message):
        read_quantized(Quantized(body), (4, 4, 2))


def test_all_reasons_are_said_at_once():
    """An operator, weights, a map that isn't rounded, an output: of operators and of the layers that they become."""

    def body(net, x):
        x = net.round(conv(net, F.gelu(net.round(x)), depth=2))
        wide = torch.arange(-300, 276).reshape(4, 4, 6, 6)[:, :, :3, :3].to(torch.int16)
        x = F.conv2d(x, QD.dequantize_per_tensor(wide, 0.01, 0, -300, 300, torch.int16), padding=1)
        x = conv(net, net.round(x), depth=4)
        x = net.round(conv(net, x, depth=4))
        return conv(net, x, depth=4)

    with pytest.raises(ValueError, match="gelu") as said:
        read_quantized(Quantized(body), (4, 4, 2))
    reasons = str(said.value).split("; ")
    for reason, start in zip(
        reasons,
        (
            "gelu: gelu isn't among the operators: ReLU", "conv2d_1: weights must be of 8 bits",
            "conv2d_2: what a layer computes must be quantized", "conv2d_4: an output must be a linear layer or",
        ),
        strict=True,
    ):  # fmt: skip
        assert reason.startswith(start)
        assert ".py:" in reason.rpartition("(")[2]


def test_shapes_are_checked():
    net = Quantized(lambda n, x: head(n, n.round(x)))
    with pytest.raises(ValueError, match=r"^shape must be given of a"):
        read_quantized(net)
    program = torch.export.export(net, (torch.zeros(1, 2, 4, 4),))
    with pytest.raises(ValueError, match=r"^shape must be that of the program's images \(4, 4, 2\), not \(4, 2, 4\)"):
        read_quantized(program, (4, 2, 4))
    network = read_quantized(program, (4, 4, 2))
    with pytest.raises(ValueError, match=r"^images must be of shape \(N, 4, 4, 2\), not \(3, 4, 2, 4\)"):
        difference(program, network, np.zeros((3, 4, 2, 4), dtype=np.float32))


def test_a_layer_that_computes_something_else_is_named(monkeypatch):
    """As it would be if a rule were wrong: here, of a ReLU."""
    monkeypatch.setitem(operators.OPERATOR_RULES, torch.ops.aten.relu.default, lambda found, node: found.map(node))
    with pytest.raises(ValueError, match=r"^conv2d: a layer must compute what the program does, up to 1 code, but "):
        read_quantized(Quantized(lambda n, x: head(n, n.round(F.relu(conv(n, n.round(x)))))), (4, 4, 2))


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
        read_quantized(net, (4, 4, 2))
        return
    with pytest.raises(ValueError, match=r"^linear: .*.* up to \d+ codes, but differs by \d+; please "):
        read_quantized(net, (4, 4, 2))


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 200), marks=pytest.mark.slow)])
def test_random_networks(seeds):
    """Reading compares each layer on the program's own codes; what runs must be able to run."""
    refused = []
    for seed in seeds:
        net = RandomNet(seed).eval()
        try:
            network = read_quantized(net, (8, 8, 3))
        except ValueError as error:
            refused.append(f"{seed}: {error}")
            continue
        lower(network)
        found = difference(net, network, images(8, 8, 3, count=4))
        last = [each for name, each in found.items() if not getattr(network.layer(name), "raw", False)]
        assert all(each.share < 0.5 for each in last), (seed, found)
    assert len(refused) < max(2, len(seeds) // 10), refused
