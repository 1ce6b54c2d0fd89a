import numpy as np
import onnx
import pytest

from models.frontends.onnx.reader import read as read_onnx
from models.frontends.quantized.reader import import_quantized
from models.frontends.runtimes import UnableError
from models.frontends.tflite.reader import imported
from models.integer import golden
from offramp.intake.model import read
from offramp.intake.reference import litert, onnx_runtime
from offramp.intake.request import ModelRequest
from tests.models.frontends.onnx.onnx_models import model, node, saved
from tests.models.frontends.tflite.tflite_builder import Builder
from tests.offramp.intake.models import onnx_file, tflite_file


def test_a_wrong_weight_is_found_in_its_layer(tmp_path):
    """The file that is run isn't the one that was read."""
    path = tflite_file(tmp_path)
    found, content = imported(path), path.read_bytes()
    codes = np.random.default_rng(0).integers(-128, 128, (20, 4, 4, 1)).astype(np.int8)
    assert litert(content, found, codes).equal
    weights = found.network.layers[0].weight.tobytes()
    assert content.count(weights) == 1
    agreement = litert(content.replace(weights, bytes(reversed(weights))), found, codes)
    assert not agreement.equal
    assert agreement.first == found.network.layers[0].name
    assert agreement.largest > 1
    assert 0 < agreement.share < 1
    assert agreement.same.shape == agreement.classes.shape == (20,)
    first = agreement.layers[agreement.first]
    assert (first.largest, first.rounded) == (agreement.largest, True)
    assert 0 < first.differing < 1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_files_with_other_inputs_get_values_that_become_the_codes(tmp_path, dtype):
    rng, b = np.random.default_rng(3), Builder()
    image = (
        b.tensor((1, 3, 3, 2), 0.02, 128, dtype="uint8") if dtype == "uint8" else b.tensor((1, 3, 3, 2), dtype=dtype)
    )
    codes, flat, out = b.tensor((1, 3, 3, 2), 0.02, 0), b.tensor((1, 18), 0.02, 0), b.tensor((1, 3), 0.05, 4)
    b.operator("QUANTIZE", [image], [codes])
    b.operator("RESHAPE", [codes, b.integers(1, 18)], [flat])
    b.fully_connected(flat, rng.integers(-127, 128, (3, 18)).astype(np.int8), None, 0.004, out)
    path = tmp_path / "net.tflite"
    path.write_bytes(b.finish([image], [out]))
    found = read(ModelRequest(model=str(path)))
    images = rng.integers(-128, 128, (10, 3, 3, 2)).astype(np.int8)
    assert found.runtime.compare(images, None).equal


@pytest.mark.parametrize(
    ("scale", "step", "reason"), [(1.0, 1e-5, "it ends its process"), (1e-3, 1.0, "RuntimeError: .*scale_diff")]
)
def test_a_file_that_litert_cannot_run(tmp_path, scale, step, reason):
    """A sum that nothing reads, of a step far below its maps'; a bias without a scale, of products of large steps."""
    b = Builder()
    image, out, total = b.tensor((1, 1, 1, 4), 30.0), b.tensor((1, 3), scale), b.tensor((1, 1, 1, 4), step)
    bias = np.ones(3, np.int32) if step == 1.0 else None
    b.fully_connected(image, np.ones((3, 4), np.int8), bias, scale / 60, out)
    b.operator("ADD", [image, b.tensor((4,), 0.003, data=np.ones(4, np.int8))], [total], "AddOptions")
    path = tmp_path / "net.tflite"
    path.write_bytes(b.finish([image], [out]))
    found = read(ModelRequest(model=str(path)))
    with pytest.raises(UnableError, match=f"LiteRT's reference kernels can't run the file: {reason}"):
        found.runtime.compare(np.zeros((2, 1, 1, 4), np.int8), None)


def test_litert_is_found_where_a_users_folder_has_a_file_of_its_name(tmp_path, monkeypatch):
    path = tflite_file(tmp_path)
    (tmp_path / "ai_edge_litert.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    codes = np.random.default_rng(0).integers(-128, 128, (2, 4, 4, 1)).astype(np.int8)
    assert litert(path.read_bytes(), imported(path), codes).equal


def test_onnx_runtime_is_compared_layer_by_layer(tmp_path):
    """A weight of the second layer is another one in the file that is run."""
    path = onnx_file(tmp_path)
    module = read_onnx(path)
    source = import_quantized(module, module.program.shape).source
    codes = np.random.default_rng(0).integers(-128, 128, (40, 4, 4, 1)).astype(np.int8)
    _, second = (layer.name for layer in source.network.layers)
    before = onnx_runtime(path, module, source, codes)
    assert (before.tensors, before.share < 0.02) == (2, True)
    changed = onnx.load(path)
    weight = next(each for each in changed.graph.initializer if each.name == "m")
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), "m"))
    onnx.save(changed, path)
    same = onnx_runtime(path, module, source, codes[before.same])
    assert (same.first, same.same.any()) == (second, False)
    assert [(each.differing > 0, each.rounded) for each in same.layers.values()] == [(False, True), (True, False)]
    found = onnx_runtime(path, module, source, codes)
    assert before.largest == found.largest <= 1  # of the first layer, which is as it was
    assert 1 < before.largest_logit < found.largest_logit
    assert before.share < found.share < 0.5
    assert found.same.mean() < 0.1
    assert found.classes.shape == (40,)
    assert (found.classes != before.classes).any()


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
@pytest.mark.parametrize("zero_point", [3, 4])
def test_ties_of_sums_are_counted(tmp_path, form, zero_point):
    """QLinearAdd rounds half to even with the zero point added, QuantizeLinear before: an odd one tells them apart."""
    if form == "QOperator":
        added = [node("com.microsoft.QLinearAdd", "a s z b s z t o", "c")]
    else:
        floats = [node("DequantizeLinear", f"{each} s z", f"{each}f") for each in "ab"]
        added = [*floats, node("Add", "af bf", "cf"), node("QuantizeLinear", "cf t o", "c")]
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("MaxPool", "a", "b", kernel_shape=[3, 3], pads=[1] * 4), *added,
        node("DequantizeLinear", "c t o", "cd"), node("Flatten", "cd", "y"),
    ]  # fmt: skip
    scales = {"s": np.float32(1 / 16), "t": np.float32(1 / 8), "z": np.int8(0), "o": np.int8(zero_point)}
    request = ModelRequest(model=str(saved(tmp_path, model(nodes, ("n", 2, 4, 4), scales))))
    found, codes = read(request), np.random.default_rng(0).integers(-128, 128, (8, 4, 4, 2)).astype(np.int8)
    pool, add = (next(each for each in found.network.layers if each.kind == kind) for kind in ("max_pool2d", "add"))
    tensors = golden.run(found.network, codes).tensors
    halves = (codes.astype(np.int64) + tensors[pool.name]) / 2
    even = np.rint(halves + zero_point) if form == "QOperator" else np.rint(halves) + zero_point
    differ = even.clip(-128, 127) != tensors[add.name]
    assert 0.1 < differ.mean() < 0.4
    agreement = found.runtime.compare(codes, None)
    assert (agreement.first, agreement.largest) == (add.name, 1)
    assert agreement.share == pytest.approx(2 * differ.mean() / 3)  # of the sum and of the output, which are the same
