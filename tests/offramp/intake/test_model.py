import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from hw.network.network_file import NetworkFile, save
from models.compression.quantize import encode
from models.integer import golden
from offramp import stages
from offramp.files import paths
from offramp.intake.model import read
from offramp.intake.preprocessing import Preprocessing
from offramp.intake.request import ModelRequest
from tests.models.frontends.onnx.onnx_models import model, node, saved
from tests.models.frontends.quantized.quantized_programs import Quantized, two_layers
from tests.offramp.intake.models import MODULE, onnx_file, tflite_file
from tests.random_networks import random_network

PAGE = Path(__file__).parents[3] / "docs" / "bring-your-own.md"
#: Several outputs, by name and in a list.
NAMED = """

class Named(Net):
    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        return {"early": self.head(x.mean(dim=(2, 3))), "rest": [self.head(F.relu(self.body(x)).mean(dim=(2, 3)))]}


class Listed(Named):
    def forward(self, x):
        found = super().forward(x)
        return [found["early"], *found["rest"]]


def named():
    torch.manual_seed(5)
    return Named()


def listed():
    torch.manual_seed(5)
    return Listed()


def flat():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def module(tmp_path):
    (tmp_path / "net.py").write_text(MODULE)
    return f"{tmp_path / 'net.py'}:net"


def same(first, second) -> bool:
    pairs = zip(first.arrays(), second.arrays(), strict=True)
    return first.to_dict() == second.to_dict() and all(np.array_equal(a[1], b[1]) for a, b in pairs)


def test_files_of_ours(small, tmp_path):
    network = random_network(3)
    save(tmp_path / "net.off", NetworkFile(network=network, origin="a test", activity={}))
    found = read(ModelRequest(model=str(tmp_path / "net.off")))
    assert (same(found.network, network), found.origin, found.data) == (True, "a test", None)
    found = read(ModelRequest(model=str(small.folder / paths.COMPRESSED)))
    assert same(found.network, small.network.network)
    assert (found.data, found.activity.keys()) == ("digits", small.network.activity.keys())
    found = read(ModelRequest(model=str(small.folder / paths.PROGRAM)))
    assert found.program is not None
    assert found.data == "digits"
    assert read(ModelRequest(model=str(small.folder / paths.UNPRUNED))).data == "digits"
    found = read(ModelRequest(model="zoo:digits"))
    assert (found.origin, found.data, found.config) == ("zoo:digits", "digits", "single")


def test_a_tflite_file_is_compared_with_its_own_runtime(tmp_path):
    found = read(ModelRequest(model=str(tflite_file(tmp_path))))
    assert (found.network.input.shape, found.network.classes) == ((4, 4, 1), 3)
    assert any("accumulators" in note for note in found.notes)
    codes = np.random.default_rng(0).integers(-128, 128, (20, 4, 4, 1)).astype(np.int8)
    agreement = found.runtime.compare(codes, None)
    assert (found.runtime.exact, agreement.equal, agreement.first, agreement.largest) == (True, True, None, 0)
    assert agreement.largest_logit is None  # the file's outputs are codes
    assert agreement.tensors >= 2
    assert (agreement.classes == golden.run(found.network, codes).classes).mean() > 0.9


def test_a_quantized_program_is_compared_with_itself(tmp_path):
    torch.export.save(torch.export.export(Quantized(two_layers), (torch.zeros(1, 2, 4, 4),)), tmp_path / "net.pt2")
    found = read(ModelRequest(model=str(tmp_path / "net.pt2")))
    assert (found.network.name, found.network.input.shape, found.network.classes) == ("net", (4, 4, 2), 3)
    assert found.origin == f"PyTorch program {tmp_path / 'net.pt2'}"
    codes = np.random.default_rng(0).integers(-128, 128, (20, 4, 4, 2)).astype(np.int8)
    agreement = found.runtime.compare(codes, None)
    assert (found.runtime.exact, agreement.tensors) == (False, 2)
    assert (agreement.classes == golden.run(found.network, codes).classes).mean() > 0.9


def test_what_one_scale_for_all_logits_changes_is_noted(tmp_path):
    def body(net, x):
        return net.round(x).flatten(1) @ net.weight(3, 32, per_channel=True).T

    torch.export.save(torch.export.export(Quantized(body), (torch.zeros(1, 2, 4, 4),)), tmp_path / "net.pt2")
    found = read(ModelRequest(model=str(tmp_path / "net.pt2")))
    (note,) = (note for note in found.notes if "a scale for each output" in note)
    most = float(note.split()[-3])
    codes = np.random.default_rng(0).integers(-128, 128, (20, 4, 4, 2)).astype(np.int8)
    agreement = found.runtime.compare(codes, None)
    assert 1 < agreement.largest_logit <= most / found.network.layers[-1].output.scale
    assert agreement.largest <= 1  # of the codes, the logits' steps not among them


def test_maps_that_a_quantized_program_leaves_in_float_get_ranges_of_images(tmp_path):
    def body(net, x):
        x = F.avg_pool2d(F.relu(F.conv2d(net.round(x), net.weight(4, 2, 3, 3))), 2)
        return F.linear(net.round(x).flatten(1), net.weight(3, 4))

    path = str(tmp_path / "net.pt2")
    torch.export.save(torch.export.export(Quantized(body), (torch.zeros(1, 2, 4, 4),)), path)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((20, 4, 4, 2)).astype(np.float32))
    with pytest.raises(
        ValueError, match=r"clip is read as it is: .*; --calibrate takes images that set the ranges of such"
    ):
        read(ModelRequest(model=path))
    request = ModelRequest(model=path, calibrate=str(tmp_path / "images.npy"))
    found = read(request)
    assert found.notes[0].startswith("calibrated on 20 images")
    assert any(note.startswith("relu: left in float by the program") for note in found.notes)
    codes = np.random.default_rng(0).integers(-60, 60, (5, 4, 4, 2)).astype(np.int8)
    assert found.runtime.compare(codes, None).largest <= 1
    with pytest.raises(ValueError, match="--ranges must go with a float model"):
        read(replace(request, ranges="mse"))


@pytest.mark.parametrize("count", [1, 4])
def test_a_float_program_is_calibrated_as_its_module(module, tmp_path, count):
    scope: dict = {}
    exec(MODULE, scope)
    program = torch.export.export(scope["net"]().eval(), (torch.zeros(count, 1, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    found = read(ModelRequest(model=str(tmp_path / "net.pt2"), calibrate="digits"))
    expected = read(ModelRequest(model=module, calibrate="digits"))
    assert found.notes == expected.notes
    images = stages.dataset("digits", None).test.images[:7]
    np.testing.assert_allclose(found.floats(images), expected.floats(images), atol=1e-5)
    codes = encode(images, found.network)
    assert np.array_equal(golden.run(found.network, codes).logits[-1], golden.run(expected.network, codes).logits[-1])


def test_which_layout_was_taken_is_noted_where_another_can_be_computed(tmp_path):
    (tmp_path / "net.py").write_text(MODULE + NAMED)
    np.savez(tmp_path / "i.npz", images=stages.dataset("digits", None).test.images[:70])
    request = ModelRequest(model=f"{tmp_path / 'net.py'}:flat", calibrate=str(tmp_path / "i.npz"))
    notes = read(request).notes
    assert notes[1].startswith("images of shape (8, 8, 1) are taken as height, width, channels (8, 8, 1); ")
    assert notes[1].endswith("computes (8, 1, 8), too: --shape says which")
    assert not any("--shape" in note for note in read(replace(request, shape=(8, 8, 1))).notes)


def test_a_module_of_a_user_is_calibrated(module):
    found = read(ModelRequest(model=module, calibrate="digits"))
    assert (found.network.input.shape, found.network.classes) == ((8, 8, 1), 10)
    assert found.notes[0] == "calibrated on 359 images of digits, test"
    assert re.fullmatch(r"as int8 the outputs are [34]\d\.\d dB above their noise, .*", found.notes[1])
    images = stages.dataset("digits", None).test.images[:50]
    agreement = found.runtime.compare(encode(images, found.network), None)
    assert (found.runtime.exact, agreement.tensors) == (False, 5)
    assert (agreement.classes == golden.run(found.network, encode(images, found.network)).classes).mean() > 0.9
    logits = found.floats(images)
    made = golden.run(found.network, encode(images, found.network)).logits[-1] * found.network.layers[-1].output.scale
    assert np.abs(made - logits).max() < 0.05 * np.abs(logits).max()


def test_outputs_in_a_dictionary_are_those_of_a_tuple(module, tmp_path):
    (tmp_path / "named.py").write_text(MODULE + NAMED)
    found = read(ModelRequest(model=f"{tmp_path / 'named.py'}:named", shape=(8, 8, 1)))
    expected = read(ModelRequest(model=f"{tmp_path / 'named.py'}:listed", shape=(8, 8, 1)))
    assert same(replace(found.network, name="listed"), expected.network)
    assert [found.network.layer(each.logits).output.shape for each in found.network.exits] == [(1, 1, 10)] * 2
    images = np.random.default_rng(0).random((3, 8, 8, 1), dtype=np.float32)
    np.testing.assert_array_equal(found.floats(images), expected.floats(images))


def test_ranges_are_chosen_as_asked(module):
    found = [read(ModelRequest(model=module, calibrate="digits", ranges=ranges)) for ranges in ("minmax", "percentile")]
    scales = [[layer.output.scale for layer in each.network.layers] for each in found]
    assert scales[1][0] < scales[0][0]
    with pytest.raises(ValueError, match="ranges must be one of minmax, percentile, mse, not 'kl'"):
        read(ModelRequest(model=module, calibrate="digits", ranges="kl"))


def test_images_may_have_their_channels_first_without_a_shape(module, tmp_path):
    pixels = stages.dataset("digits", None).test.images[:40]
    for name, images in (("last", pixels), ("first", pixels.transpose(0, 3, 1, 2))):
        np.save(tmp_path / f"{name}.npy", images)
    last, first = (
        read(ModelRequest(model=module, calibrate=str(tmp_path / f"{name}.npy"))) for name in ("last", "first")
    )
    assert first.network.input.shape == (8, 8, 1)
    assert same(first.network, last.network)


def test_without_images_it_says_so_and_needs_a_shape(module):
    with pytest.raises(ValueError, match="--shape HEIGHT,WIDTH,CHANNELS must be given"):
        read(ModelRequest(model=module))
    found = read(ModelRequest(model=module, shape=(9, 7, 1), preprocessing=Preprocessing(mean=(0.5,))))
    assert found.network.input.shape == (9, 7, 1)
    assert found.network.input.zero_point == -1  # of values in -0.5..0.5
    assert "calibrated on 64 random images" in found.notes[0]


@pytest.mark.parametrize("kind", ["safetensors", "pt", "checkpoint", "parallel"])
def test_weights_come_from_a_file(module, tmp_path, kind):
    found = read(ModelRequest(model=module, calibrate="digits"))
    scope: dict = {}
    exec(MODULE, scope)
    torch.manual_seed(99)
    other = scope["Net"]()
    state = {name: value + 0.01 for name, value in other.state_dict().items() if value.is_floating_point()}
    state |= {name: value for name, value in other.state_dict().items() if not value.is_floating_point()}
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, file)
    else:
        prefix = "module." if kind == "parallel" else ""
        held = {f"{prefix}{name}": value for name, value in state.items()}
        torch.save({"state_dict": held, "epoch": 3} if kind == "checkpoint" else held, file)
    loaded = read(ModelRequest(model=module, calibrate="digits", weights=file))
    assert not same(found.network, loaded.network)
    other.load_state_dict(state)
    images = stages.dataset("digits", None).test.images[:5]
    with torch.no_grad():
        expected = other.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(loaded.floats(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("gone", r"net\.py: must have a function or class 'gone' that makes the module"),
        ("nothing", r"net\.py:nothing must return a torch\.nn\.Module, not int"),
        ("broken", r"net\.py:broken: KeyError: 'gone'"),
        ("unfit", r"^\S+net\.py:unfit: ValueError: too many values to unpack"),
        ("leaving", r"net\.py:leaving: SystemExit: 2"),
    ],
)
def test_factories_that_make_no_module_are_refused(module, factory, message):
    path = module.rpartition(":")[0]
    with pytest.raises(ValueError, match=message):
        read(ModelRequest(model=f"{path}:{factory}", shape=(8, 8, 1)))
    with pytest.raises(ValueError, match="there must be such a Python file"):
        read(ModelRequest(model="gone.py:net", shape=(8, 8, 1)))


def test_weights_that_are_not_the_modules_are_refused(module, tmp_path):
    file, request = tmp_path / "w.safetensors", ModelRequest(model=module, shape=(8, 8, 1), weights=tmp_path / "w.pt")
    scope: dict = {}
    exec(MODULE, scope)
    state = scope["Net"]().state_dict()
    del state["stem.bias"]
    save_file(state | {"head.weight": torch.zeros(3, 6), "other": torch.zeros(1)}, file)
    reasons = r"lacks 'stem.bias'; has 'other', which the module hasn't; head.weight is \(3, 6\) and must be \(10, 6\)$"
    with pytest.raises(ValueError, match=reasons):
        read(ModelRequest(model=module, shape=(8, 8, 1), weights=file))
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        read(ModelRequest(model=module, shape=(8, 8, 1), weights=file))
    with pytest.raises(ValueError, match=r"w\.pt: cannot be read: No such file"):
        read(request)
    (tmp_path / "w.pt").write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ValueError, match=r"must be weights that torch\.load reads with weights_only"):
        read(request)
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="must be a dictionary of tensors by name, not list"):
        read(request)


def test_options_of_other_kinds_of_models_are_refused(tmp_path, small):
    path = str(tflite_file(tmp_path))
    with pytest.raises(ValueError, match=r"--weights must go with module\.py:factory"):
        read(ModelRequest(model=path, weights=tmp_path / "w.pt"))
    with pytest.raises(ValueError, match="--calibrate must go with a float model"):
        read(ModelRequest(model=path, calibrate="digits"))
    with pytest.raises(ValueError, match="--ranges must go with a float model"):
        read(ModelRequest(model=path, ranges="mse"))
    with pytest.raises(ValueError, match="--output-tensor must go with a TFLite file"):
        read(ModelRequest(model="zoo:digits", output_tensor="logits"))
    with pytest.raises(ValueError, match=r"trained\.off is a trained network: compress it first"):
        read(ModelRequest(model=str(small.folder / paths.TRAINED)))


def test_without_its_runtime_a_tflite_file_is_read_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("offramp.intake.model.find_spec", lambda name: None)
    found = read(ModelRequest(model=str(tflite_file(tmp_path))))
    assert found.runtime is None
    assert found.notes[-1] == "LiteRT isn't installed, so nothing is compared with it: pip install ai-edge-litert"


def test_an_onnx_file_is_also_run_by_onnx_runtime(tmp_path, monkeypatch):
    """Exported as the page on models from outside shows."""
    monkeypatch.chdir(tmp_path)
    scope: dict = {"torch": torch, "image": torch.rand(1, 1, 8, 8)}
    exec(MODULE, scope)
    path, module = tmp_path / "net.onnx", scope["net"]()
    (code,) = re.findall(r"```python\n(torch\.onnx\.export\(.*?)```", PAGE.read_text(), re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, scope | {"module": module})
    found = read(ModelRequest(model=str(path), calibrate="digits"))
    assert list(found.classifiers) == ["ONNX Runtime"]
    images = stages.dataset("digits", None).test.images[:40]
    with torch.no_grad():
        expected = module(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy().argmax(axis=1)
    np.testing.assert_array_equal(found.classifiers["ONNX Runtime"](encode(images, found.network)), expected)
    monkeypatch.setattr("offramp.intake.model.find_spec", lambda name: None)
    without = read(ModelRequest(model=str(path), calibrate="digits"))
    assert not without.classifiers
    assert without.notes[-1].startswith("ONNX Runtime isn't installed")


def test_a_quantized_onnx_file_is_compared_with_onnx_runtime(tmp_path, monkeypatch):
    found = read(ModelRequest(model=str(onnx_file(tmp_path))))
    assert (found.runtime.name, found.runtime.exact) == ("ONNX Runtime", False)
    assert found.runtime.otherwise.name == "PyTorch, quantized program"
    assert not found.classifiers
    codes = np.random.default_rng(0).integers(-128, 128, (20, 4, 4, 1)).astype(np.int8)
    one, other = (each.compare(codes, None) for each in (found.runtime, found.runtime.otherwise))
    assert (one.tensors, one.largest) == (other.tensors, other.largest)
    monkeypatch.setattr("offramp.intake.model.find_spec", lambda name: None)
    assert read(ModelRequest(model=str(tmp_path / "net.onnx"))).runtime.name == "PyTorch, quantized program"


def test_all_reasons_of_an_onnx_file_are_said_before_images_are_looked_at(tmp_path):
    """An operator that isn't known, one of another kind whose map can't be followed, and a product of two maps."""
    nodes = [
        node("Conv", "x w", "a"), node("Gelu", "a", "b"), node("LpPool", "b", "c", kernel_shape=[2, 2]),
        node("AveragePool", "c", "d", kernel_shape=[3, 3], pads=[1] * 4), node("Mul", "d c", "e"), node("Flatten", "e"),
    ]  # fmt: skip
    path = saved(tmp_path, model(nodes, (1, 1, 4, 4), {"w": np.ones((2, 1, 1, 1), np.float32)}, opset=20))
    with pytest.raises(ValueError, match="isn't supported") as said:
        read(ModelRequest(model=str(path)))
    assert re.findall(r"/\w+/\w", str(said.value).partition(".onnx: ")[2]) == [
        "/Gelu/b",
        "/LpPool/c",
        "/AveragePool/d",
        "/Mul/e",
    ]
    coded = [node("QuantizeLinear", "x s z", "a"), node("DequantizeLinear", "a s z", "b"), node("Gelu", "b", "c"),
             node("Conv", "c w", "d"), node("Flatten", "d")]  # fmt: skip
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": np.ones((2, 1, 1, 1), np.float32)}
    path = saved(tmp_path, model(coded, (1, 1, 4, 4), constants, opset=20))
    with pytest.raises(ValueError, match=r"Gelu '/Gelu/c' isn't supported.*; /Conv/d: weights must be dequantized"):
        read(ModelRequest(model=str(path)))
