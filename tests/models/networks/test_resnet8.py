from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hw.network.network import Conv2D
from models.compression.quantize import encode, quantize, to_network
from models.datasets.splits import Split, load
from models.frontends.pytorch.graph import lower
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.networks.architectures import initial
from models.networks.residual_net import to_torch
from models.networks.resnet8 import WEIGHTS, ResNet8, ResNet8Architecture, official_state, same_pads
from models.training.train import Schedule, accuracy, predict

OFFICIAL = ResNet8Architecture(shape=(32, 32, 3), classes=10)


def multiply_accumulates(graph):
    return sum(
        step.shape[0] * step.shape[1] * step.weight.numel()
        for step in graph.steps
        if step.weight is not None
    )  # fmt: skip


def test_sizes_are_those_of_mlperf_tiny():
    model = initial(OFFICIAL, 0)
    graph = lower(model, OFFICIAL.shape)
    assert sum(step.weight.numel() for step in graph.steps if step.weight is not None) == 77_360
    assert multiply_accumulates(graph) == pytest.approx(12.50e6, rel=0.001)
    assert [step.shape for step in graph.steps if step.kind == "add"] == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]
    uneven = {step.name: step.pads for step in graph.steps if step.pads == (0, 1, 0, 1)}
    assert list(uneven) == ["block2.first.conv", "block3.first.conv"]


def test_strides_say_where_maps_are_halved():
    """The official ones are the default; the first block has a shortcut of its own once it halves its map."""
    early = replace(OFFICIAL, strides=(2, 1, 2), exits=(1, 2), exit_widths=(0, 8))
    graph = lower(initial(early, 0), early.shape)
    shapes = {step.name: step.shape for step in graph.steps}
    assert [step.shape for step in graph.steps if step.kind == "add"] == [(16, 16, 16), (16, 16, 32), (8, 8, 64)]
    assert shapes["block1.shortcut"] == (16, 16, 16)
    assert shapes["exits.2.body.conv"] == (8, 8, 8)
    small = replace(OFFICIAL, strides=(1, 1, 2), stem_stride=2)
    graph = lower(initial(small, 0), small.shape)
    assert [step.shape for step in graph.steps if step.kind == "add"] == [(16, 16, 16), (16, 16, 32), (8, 8, 64)]
    assert replace(OFFICIAL, strides=(1, 2, 2), stem_stride=1) == OFFICIAL
    with pytest.raises(ValueError, match="strides must be 3 whole numbers from 1 to 2, not"):
        replace(OFFICIAL, strides=(1, 2, 4))


@given(st.integers(4, 70), st.sampled_from([1, 3, 5]), st.integers(1, 3))
def test_pads_are_tensorflows(size, kernel, stride):
    """SAME: as many outputs as strides begin in the map, the odd position behind."""
    before, behind = same_pads(size, kernel, stride)
    assert (size + before + behind - kernel) // stride + 1 == -(-size // stride)
    assert before + behind == 0 or behind - before in (0, 1)
    assert min(before, behind) >= 0


def noise(shape, count=96):
    rng = np.random.default_rng(0)
    return Split(images=rng.random((count, *shape), dtype=np.float32), labels=np.arange(count) % 10)


@pytest.mark.parametrize(
    ("shape", "exits", "widths"),
    [((12, 10, 3), (), ()), ((12, 10, 3), (1,), (5,)), ((14, 15, 1), (2,), (0,)), ((8, 8, 1), (1, 2), (3, 4))],
)
def test_integers_twin_and_surrogate_agree(shape, exits, widths):
    architecture = ResNet8Architecture(shape=shape, classes=10, widths=(4, 6, 8), exits=exits, exit_widths=widths)
    model, split = initial(architecture, 0), noise(shape)
    assert len(model(to_torch(split.images[:2]))) == len(exits) + 1
    twin = quantize(model, split, Schedule(epochs=2, lr=1e-3), seed=0)
    network = to_network(twin, "small")
    assert len(network.exits) == len(exits) + 1
    if shape[0] % 4 == 0 and shape[1] % 2 == 0:
        layer = network.layer("block2.first.conv")
        assert isinstance(layer, Conv2D)
        assert layer.pads == (0, 1, 0, 1)
    result = golden.run(network, encode(split.images, network), keep=False)
    for form in (twin, Surrogate(network)):
        for logits, expected, head in zip(result.logits, predict(form, split.images), network.exits, strict=True):
            scale = network.layer(head.logits).output.scale
            # A code that rounds the other way moves a logit by at most a weight's 127 steps.
            assert np.abs(logits - expected / scale).mean() < 127


def test_zero_pad_needs_a_convolution():
    model = nn.Sequential(nn.ZeroPad2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(
        ValueError, match=r"0: padding must add rows and columns of zeros before a convolution, not \(1, 1, 1, 1\) of"
    ):
        lower(model, (4, 4, 1))
    model = nn.Sequential(nn.ZeroPad2d((1, 0, 0, -1)), nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(30, 2))
    with pytest.raises(ValueError, match="0: padding must add rows and columns of zeros"):
        lower(model, (4, 4, 1))


def test_pads_add_up():
    model = nn.Sequential(
        nn.ZeroPad2d((2, 0, 1, 3)), nn.Conv2d(1, 2, 3, stride=(1, 2), padding=(0, 1)), nn.Flatten(), nn.Linear(42, 2)
    )
    graph = lower(model, (5, 4, 1))
    assert graph.steps[0].pads == (1, 3, 3, 1)
    assert graph.steps[0].shape == (7, 3, 2)


def official(model_root):
    model = ResNet8(OFFICIAL)
    model.load_state_dict(official_state(model_root / WEIGHTS))
    return model.eval()


def reference(arrays, x):
    """The official network's arithmetic, from its arrays as they are: pixels 0..255, biases, Keras' epsilon."""

    def norm(x, name):
        values = (arrays[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values, eps=1e-3)

    def conv(x, name, stride=1):
        kernel = arrays[f"{name}.weight"].shape[2]
        pads = same_pads(x.shape[2], kernel, stride)
        return F.conv2d(F.pad(x, (*pads, *pads)), arrays[f"{name}.weight"], arrays[f"{name}.bias"], stride)

    x = norm(conv(x * 255, "c"), "b").relu()
    for number in (1, 2, 3):
        stride = 1 if number == 1 else 2
        y = norm(conv(x, f"s{number}.c1", stride), f"s{number}.b1").relu()
        y = norm(conv(y, f"s{number}.c2"), f"s{number}.b2")
        x = (y + (x if number == 1 else conv(x, f"s{number}.sc", stride))).relu()
    return F.linear(x.mean(dim=(2, 3)), arrays["fc.weight"], arrays["fc.bias"])


def test_official_weights_keep_their_meaning(data_root):
    with np.load(data_root / WEIGHTS) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(official(data_root)(images)[0], reference(arrays, images), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_official_weights_reach_their_accuracy(data_root):
    test = load("cifar10", data_root).test
    assert accuracy(predict(official(data_root), test.images)[0], test.labels) == 0.8719


def test_broken_weight_files(tmp_path):
    path = tmp_path / "weights.npz"
    with pytest.raises(ValueError, match=r"weights.npz: cannot be read: No such file"):
        official_state(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"weights.npz: must be an npz file of arrays"):
        official_state(path)
    np.savez(path, **{"c.weight": np.zeros((16, 3, 3, 3), np.float32)})
    with pytest.raises(ValueError, match=r"weights.npz: must hold '.*'"):
        official_state(path)


def official_arrays() -> dict[str, np.ndarray]:
    """Ones in the form of the official file."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (10, 64), "fc.bias": (10,)}
    widths, convolutions = (16, 16, 32, 64), [("c", "b", 3, 16)]
    for n in (1, 2, 3):
        convolutions += [
            (f"s{n}.c1", f"s{n}.b1", *widths[n - 1 : n + 1]),
            (f"s{n}.c2", f"s{n}.b2", widths[n], widths[n]),
        ]
    for n in (2, 3):
        shapes |= {f"s{n}.sc.weight": (widths[n], widths[n - 1], 1, 1), f"s{n}.sc.bias": (widths[n],)}
    for conv, norm, inputs, outputs in convolutions:
        shapes |= {f"{conv}.weight": (outputs, inputs, 3, 3), f"{conv}.bias": (outputs,)}
        shapes |= {f"{norm}.{kind}": (outputs,) for kind in ("weight", "bias", "running_mean", "running_var")}
    counts = {f"{norm}.num_batches_tracked": np.array(3) for _, norm, _, _ in convolutions}
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()} | counts


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("s1.b2.weight", None, "must hold 's1.b2.weight'"),
        (
            "s2.c1.bias",
            np.zeros(31, np.float32),
            r"s2.c1.bias must be float32 of shape \(32,\), not float32 of shape \(31",
        ),
        (
            "fc.weight",
            np.zeros((10, 64)),
            r"fc.weight must be float32 of shape \(10, 64\), not float64 of shape \(10, 64",
        ),
        ("b.running_var", np.full(16, np.nan, np.float32), "b.running_var must be finite, not NaN or infinite"),
        ("b.running_var", np.full(16, -1, np.float32), "b.running_var must not be negative, but holds -1.0"),
    ],
)
def test_weight_files_with_other_arrays(tmp_path, name, array, expected):
    arrays, path = official_arrays(), tmp_path / "weights.npz"
    np.savez(path, **arrays)
    official_state(path)
    np.savez(path, **{key: value for key, value in (arrays | {name: array}).items() if value is not None})
    with pytest.raises(ValueError, match=rf"weights\.npz: {expected}"):
        official_state(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (3, 8, 1)}, r"shape must be .* of 4 to 255 rows and columns .*, not \(3, 8, 1\)"),
        ({"classes": 1}, "classes must be a whole number from 2 to 2048, not 1"),
        ({"widths": (4, 4)}, "widths must be 3 whole numbers from 1 to 4088"),
        ({"exits": (2, 1)}, r"exits must be among 1 and 2, ascending, not \(2, 1\)"),
        ({"exits": (1,), "exit_widths": ()}, "exit_widths must be 1 whole number from 0 to 4088, not"),
    ],
)
def test_architecture_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        ResNet8Architecture(**{"shape": (8, 8, 1), "classes": 10, **change})
