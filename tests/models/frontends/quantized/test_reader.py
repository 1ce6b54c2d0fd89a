import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.config import preset
from models.compression.quantize import encode
from models.frontends.quantized.reader import import_quantized
from models.integer import golden
from tests.models.frontends.quantized.quantized_programs import (
    QD,
    Block,
    Quantized,
    RandomNet,
    conv,
    converted,
    difference,
    head,
    images,
    kinds,
    seeded,
    written,
)

#: On images of its own a layer's codes may differ by more than one where those that it reads differ.
SHARE = 0.1


def read(program, *shape, most=3):
    """The network of a program, found to compute what the program does but for a few codes."""
    network = import_quantized(program, shape if isinstance(program, nn.Module) else None).network
    found = difference(program, network, images(*shape))
    assert all(each.largest <= most and (each.share <= SHARE or each.largest <= 1) for each in found.values()), found
    return network


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
    compile_network(network, preset("base-85f"))


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
    compile_network(network, preset("base-85f"))


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


def test_an_image_that_is_rounded_behind_a_max_pool():
    """No tensor of the program has the image's codes."""
    module = Quantized(lambda net, x: F.linear(net.round(F.max_pool2d(x, 2)).flatten(1), net.weight(3, 8)))
    network = import_quantized(module, (4, 4, 2)).network
    assert [layer.kind for layer in network.layers] == ["max_pool2d", "linear"]
    values = images(4, 4, 2)
    assert {each.largest for each in difference(module, network, values).values()} == {0}
    assert {each.largest for each in difference(module, network, encode(values, network)).values()} == {0}


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
        network = import_quantized(each).network
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
        import_quantized(Quantized(body), (4, 4, 2))


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
        import_quantized(Quantized(body), (4, 4, 2))
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


@pytest.mark.parametrize(
    "body",
    [
        lambda n, x, y: x - y,
        lambda n, x, y: y - x,
        lambda n, x, y: torch.rsub(x, y),
        lambda n, x, y: y - y.view(y.shape),
        lambda n, x, y: n.round(x - y, 0.0713) - n.round(y - x, 0.0619),
    ],
)
def test_differences_of_maps_are_sums_of_one_and_the_negative_of_the_other(body):
    def whole(net, x):
        x = net.round(x, 0.0317)
        y = net.round(F.relu(conv(net, x, 2)), 0.0523)
        return head(net, net.round(body(net, x, y), 0.0811))

    net = Quantized(whole)
    network = import_quantized(net, (4, 4, 2)).network
    found = difference(net, network, images(4, 4, 2))
    assert max(each.largest for name, each in found.items() if name != network.exits[0].logits) <= 1
    codes = np.random.default_rng(0).integers(-128, 128, (5, 4, 4, 2)).astype(np.int8)
    made = golden.run(network, codes)
    negatives = [layer for layer in network.layers if ".affine" in layer.name or layer.name.startswith("affine")]
    assert negatives
    for layer in negatives:
        (source,) = layer.inputs
        np.testing.assert_array_equal(made.tensors[layer.name], -1 - made.tensors.get(source, codes))


def test_a_negative_is_read_by_what_reads_codes():
    net = Quantized(lambda n, x: head(n, n.round(conv(n, F.max_pool2d(-n.round(x), 2)))))
    network = import_quantized(net, (4, 4, 2)).network
    assert [layer.kind for layer in network.layers] == ["depthwise_conv2d", "max_pool2d", "conv2d", "linear"]
    assert difference(net, network, images(4, 4, 2))["conv2d"].largest <= 1


def test_shapes_are_checked():
    net = Quantized(lambda n, x: head(n, n.round(x)))
    with pytest.raises(ValueError, match=r"^shape must be given of a"):
        import_quantized(net)
    program = torch.export.export(net, (torch.zeros(1, 2, 4, 4),))
    with pytest.raises(ValueError, match=r"^shape must be that of the program's images \(4, 4, 2\), not \(4, 2, 4\)"):
        import_quantized(program, (4, 2, 4))
    network = import_quantized(program, (4, 4, 2)).network
    with pytest.raises(ValueError, match=r"^images must be of shape \(N, 4, 4, 2\), not \(3, 4, 2, 4\)"):
        difference(program, network, np.zeros((3, 4, 2, 4), dtype=np.float32))


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 200), marks=pytest.mark.slow)])
def test_random_networks(seeds):
    """Reading compares each layer on the program's own codes; what runs must be able to run."""
    refused = []
    for seed in seeds:
        net = RandomNet(seed).eval()
        try:
            network = import_quantized(net, (8, 8, 3)).network
        except ValueError as error:
            refused.append(f"{seed}: {error}")
            continue
        lower(network)
        found = difference(net, network, images(8, 8, 3, count=4))
        last = [each for name, each in found.items() if not getattr(network.layer(name), "raw", False)]
        assert all(each.share < 0.5 for each in last), (seed, found)
    assert len(refused) < max(2, len(seeds) // 10), refused
