"""Files from exporters, to integer networks; whatever the number of images, the names, and the end of the file."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from models.compression.calibration import calibrate
from models.compression.quantize import encode
from models.frontends.onnx.reader import read
from models.frontends.pytorch.graph import lower
from models.integer import golden
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from tests.models.frontends.onnx.onnx_models import checked, exported, images, model, node, saved

MAP = ("n", 3, 8, 8)
RNG = np.random.default_rng(4)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Ordinary(nn.Module):
    """What people write: functions, view with the number of images, mean, a softmax."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(x + self.conv2(x)), 2)
        return F.softmax(self.fc(x.view(x.size(0), -1)), 1)


@pytest.fixture
def ordinary():
    torch.manual_seed(3)
    return Ordinary().eval()


@pytest.mark.parametrize("free", [True, False])
def test_an_exported_module_becomes_an_integer_network(tmp_path, ordinary, free):
    found = read(exported(tmp_path, ordinary, (1, 3, 8, 8), free=free))
    (note,) = found.program.notes
    assert note.endswith(": Softmax '/Softmax' left out, the order of the classes stays")
    given = torch.from_numpy(images(found, 7))
    with torch.no_grad():
        torch.testing.assert_close(found(given).softmax(1), ordinary(given), rtol=1e-4, atol=1e-5)
    graph = lower(found, found.program.shape)
    assert {"/conv1/Conv", "/conv2/Conv", "/fc/Gemm"} <= {step.name for step in graph.steps}
    pixels = np.random.default_rng(1).random((40, 8, 8, 3)).astype(np.float32)
    network = calibrate(found, pixels).network
    run = golden.run(network, encode(pixels, network))
    with torch.no_grad():
        wanted = found(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).argmax(1).numpy()
    assert (run.logits[0].reshape(40, -1).argmax(1) == wanted).mean() > 0.8


def test_the_same_integer_network_as_the_module_itself(tmp_path, ordinary):
    class Logits(Ordinary):
        def forward(self, x):
            x = F.relu(self.bn1(self.conv1(x)))
            x = F.max_pool2d(F.relu(x + self.conv2(x)), 2)
            return self.fc(torch.flatten(x, 1))

    net = Logits().eval()
    net.load_state_dict(ordinary.state_dict())
    found = read(exported(tmp_path, net, (1, 3, 8, 8)))
    pixels = np.random.default_rng(1).random((40, 8, 8, 3)).astype(np.float32)
    codes = [golden.run(made, encode(pixels, made)).logits[0] for made in (
        calibrate(found, pixels).network, calibrate(net, pixels).network,
    )]  # fmt: skip
    assert np.abs(codes[0].astype(int) - codes[1]).max() <= 0.02 * np.abs(codes[1]).max()


def test_a_network_with_exits(tmp_path):
    torch.manual_seed(2)
    net = initial(Architecture(shape=(8, 8, 1), classes=10, widths=(4, 6), branch_width=3), 0)
    found = checked(exported(tmp_path, net, (1, 1, 8, 8)))
    assert len(lower(found, (8, 8, 1)).exits) == 2


@pytest.mark.parametrize("opset", [9, 11, 13, 16, 20])
def test_exporters_of_every_age(tmp_path, ordinary, opset):
    found = read(exported(tmp_path, ordinary, (1, 3, 8, 8), opset=opset))
    given = torch.from_numpy(images(found, 3))
    with torch.no_grad():
        torch.testing.assert_close(found(given).softmax(1), ordinary(given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5, "n", None])
@pytest.mark.parametrize("kind", ["constant", "computed", "zeros"])
def test_any_number_of_images(tmp_path, batch, kind):
    """Files for one image, for several, and for any give the same for any number."""
    rows = batch if isinstance(batch, int) else -1
    nodes = {
        "constant": [node("Reshape", "x rows", "f")],
        "computed": [
            node("Shape", "x", "s"), node("Gather", "s zero", "b"), node("Unsqueeze", "b axes", "u"),
            node("Concat", "u rest", "t", axis=0), node("Cast", "t", "i", to=TensorProto.INT64),
            node("Reshape", "x i", "f"),
        ],
        "zeros": [node("Shape", "x", "s"), node("Slice", "s from to", "t"), node("Concat", "t rest", "i", axis=0),
                  node("Reshape", "x i", "f")],
    }  # fmt: skip
    constants = {
        "rows": np.array([rows, 192]), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
        "from": np.array([0]), "to": np.array([1]), "w": floats(192, 4), "b4": floats(4),
    }  # fmt: skip
    found = checked(saved(tmp_path, model([*nodes[kind], node("Gemm", "f w b4")], (batch, 3, 8, 8), constants)))
    for count in (1, 3, 4):
        given = torch.from_numpy(images(found, count))
        with torch.no_grad():
            every, alone = found(given), torch.cat([found(one[None]) for one in given])
        torch.testing.assert_close(every, alone, rtol=1e-5, atol=1e-4)
    assert lower(found, found.program.shape).exits == ("/Gemm/y",)


def test_an_error_of_lowering_names_the_node(tmp_path):
    nodes = [
        node("Conv", "x w", "c"), node("Conv", "x w v", "e"), node("Div", "c e", "d"), node("Flatten", "d", "f"),
        node("MatMul", "f m"),
    ]  # fmt: skip
    constants = {"w": floats(4, 3, 3, 3), "v": np.full(4, 99, np.float32), "m": floats(144, 3)}
    found = read(saved(tmp_path, model(nodes, MAP, constants)))
    copy.deepcopy(found)
    with pytest.raises(ValueError, match=r"/Div/d: .*, not div$"):  # without a line of ours
        lower(found, found.program.shape)


def test_sizes_that_a_file_leaves_open(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "g"), node("Flatten", "g")]
    path = saved(tmp_path, model(nodes, ("n", 3, "h", None), {"w": floats(4, 3, 3, 3)}))
    with pytest.raises(
        ValueError, match="input 'x' leaves sizes open: height, width, channels of an image must be giv"
    ):
        read(path)
    assert checked(path, (9, 7, 3)).program.shape == (9, 7, 3)
    for shape in ((9, 7, 4), (9, 7, 3.0), (0, 7, 3)):
        with pytest.raises(ValueError, match=r"(shape must be|images must be of shape)"):
            read(path, shape)


def test_values_without_positions_and_rows(tmp_path):
    path = saved(tmp_path, model([node("Gemm", "x w", "h"), node("Relu", "h", "r"), node("Gemm", "r v")], (1, 6), {
        "w": floats(6, 5), "v": floats(5, 3),
    }))  # fmt: skip
    found = checked(path)
    assert found.program.shape == (1, 1, 6)
    assert len(lower(found, (1, 1, 6)).steps) == 2


def test_half_precision(tmp_path):
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "r"), node("Flatten", "r", "f"), node("Gemm", "f m")]
    constants = {"w": floats(4, 3, 3, 3), "b": floats(4), "m": floats(144, 3)}
    halves = {name: values.astype(np.float16) for name, values in constants.items()}
    found = read(saved(tmp_path, model(nodes, MAP, halves, dtype=TensorProto.FLOAT16, result=TensorProto.FLOAT16)))
    whole = read(saved(tmp_path, model(nodes, MAP, {n: v.astype(np.float32) for n, v in halves.items()})))
    given = torch.from_numpy(images(found))
    with torch.no_grad():
        assert torch.equal(found(given), whole(given))


def random_graph(seed: int) -> onnx.ModelProto:
    """A few operators, each of maps that are there already, and a head."""
    rng = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {}
    maps, nodes = [("x", 3, 8)], []

    def constant(*shape: int) -> str:
        name = f"c{len(constants)}"
        constants[name] = (rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
        return name

    for number in range(int(rng.integers(3, 9))):
        (source, channels, size), name = maps[rng.integers(len(maps))], f"t{number}"
        kind = rng.choice(["Conv", "Depthwise", "Relu", "Clip", "BatchNormalization", "Add", "Concat", "Pool", "Pad"])
        if kind in ("Conv", "Depthwise"):
            groups = channels if kind == "Depthwise" else 1
            outputs = channels if kind == "Depthwise" else int(rng.integers(2, 7))
            kernel, stride = int(rng.choice([1, 3])), int(rng.choice([1, 2]))
            weight, bias = constant(outputs, channels // groups, kernel, kernel), constant(outputs)
            nodes.append(node("Conv", f"{source} {weight} {bias}", name, group=groups, strides=[stride] * 2,
                              pads=[kernel // 2] * 4))  # fmt: skip
            channels, size = outputs, (size - 1) // stride + 1
        elif kind == "BatchNormalization":
            names = " ".join(constant(channels) for _ in range(4))
            constants[names.split()[3]] = np.abs(constants[names.split()[3]]) + np.float32(0.1)
            nodes.append(node(kind, f"{source} {names}", name))
        elif kind in ("Add", "Concat"):
            same = [other for other, *sizes in maps if sizes == [channels, size]]
            nodes.append(node(kind, f"{source} {rng.choice(same)}", name, **({"axis": 1} if kind == "Concat" else {})))
            channels *= 2 if kind == "Concat" else 1
        elif kind == "Pool" and size >= 2:
            nodes.append(
                node(str(rng.choice(["MaxPool", "AveragePool"])), source, name, kernel_shape=[2, 2], strides=[2, 2])
            )
            size //= 2
        elif kind == "Pad":
            name_of = constant(1)
            constants[name_of] = np.array([0, 0, 1, 1, 0, 0, 0, 0])
            nodes.append(node(kind, f"{source} {name_of}", name))
            size += 1
        elif kind == "Clip":
            low, high = constant(), constant()
            constants[low], constants[high] = np.float32(0), np.float32(rng.choice([1, 6]))
            nodes.append(node(kind, f"{source} {low} {high}", name))
        else:
            nodes.append(node("Relu", source, name))
        maps.append((name, channels, size))
    source, channels, size = maps[-1]
    if rng.random() < 0.5:
        nodes += [node("GlobalAveragePool", source, "g"), node("Flatten", "g", "f")]
        width = channels
    else:
        nodes.append(node("Flatten", source, "f"))
        width = channels * size * size
    nodes.append(node("Gemm", f"f {constant(5, width)} {constant(5)}", transB=1))
    return model(nodes, (str(rng.choice(["n", "1"])) if rng.random() < 0.7 else 2, 3, 8, 8), constants)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(tmp_path, seed):
    checked(saved(tmp_path, random_graph(seed)), tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 1000))
def test_more_random_graphs(tmp_path, seed):
    checked(saved(tmp_path, random_graph(seed)), tolerance=1e-4)
