"""Networks leave as files of others and come back the same, or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from hw.network import network_file
from hw.network.network import INPUT, NEVER, Network, Select
from hw.numerics import Rounding
from models import zoo
from models.backends import export
from models.backends.export import FORMS, export_file
from models.backends.tflite_writer import ACTIVATIONS
from models.frontends.tflite import reader as tflite_reader
from models.frontends.tflite.layers import clamp_of
from offramp.commands.network import EXPORTED
from tests.models.backends.exportable import changed, exportable, renamed
from tests.random_networks import NetworkMaker, odd_network, random_codes


def small(seed: int = 0) -> Network:
    """Two convolutions and a head, with clamps that every file can say."""
    maker = NetworkMaker(np.random.default_rng(seed), (5, 4, 2))
    maker.head(maker.conv(maker.conv(INPUT, 3, (3, 3)), 3, (1, 1)), 3)
    made = maker.network("small")
    return replace(made, layers=tuple(replace(layer, clamp=(-128, 127)) for layer in made.layers))


def test_a_network_of_the_zoo_comes_back(tmp_path):
    entry = zoo.entry("zoo:digits")
    network, _ = zoo.part(entry, zoo.load(entry))
    made = export_file(network, ".tflite")
    path = tmp_path / "digits.tflite"
    path.write_bytes(made.content)
    again = tflite_reader.read(path)
    codes = random_codes(network, 8, 1)
    first, second = (export.golden.run(each, codes).logits for each in (network, again))
    np.testing.assert_array_equal(first, second)
    assert [head.threshold for head in again.exits] == [NEVER, None]
    assert any(f"at branch_head.linear with a margin of {network.exits[0].threshold} or more" in n for n in made.notes)
    assert any("76 multipliers differ from the network's in their last bits" in note for note in made.notes)


def test_endings_are_those_of_the_command():
    assert tuple(FORMS) == EXPORTED


#: What layers may be called: as PyTorch's modules, as other exporters' nodes, and as what the writers add.
NAMES = ("stem", "stem.codes", "block.0.add", "/body/MaxPool", "image", "image.codes", "stem_1", "training")


def read_back(network: Network, ending: str, folder: Path) -> Network:
    """What is made of an exported network; a file of ours is written and read by itself."""
    path = folder / f"net{ending}"
    if ending == ".off":
        network_file.save(path, network_file.NetworkFile(network=network, origin="made here", activity={}))
        return network_file.load(path).network
    path.write_bytes(export_file(network, ending).content)
    found, _ = FORMS[ending].read(path)
    return found


@pytest.mark.parametrize("ending", [".off", *EXPORTED])
def test_layers_keep_their_names_on_every_trip(tmp_path, ending):
    """Those of a TFLite file are kinds and positions in the file, which stay the same from the first trip on."""
    network = exportable(15, ".onnx" if ending == ".off" else ending)
    network = renamed(network, dict(zip((layer.name for layer in network.layers), NAMES, strict=True)))
    first = read_back(network, ending, tmp_path)
    second = read_back(first, ending, tmp_path)
    names = [[layer.name for layer in each.layers] for each in (network, first, second)]
    assert names[1] == names[2]
    assert names[0] == list(NAMES)
    if ending != ".tflite":
        assert names[0] == names[1]


def test_the_image_of_an_onnx_file_has_a_name_of_its_own():
    """Where a layer is called as it is otherwise."""
    network = exportable(15, ".onnx")
    for name, expected in (("layer0", "image"), ("image", "image.1")):
        made = onnx.load_from_string(export_file(renamed(network, {"layer0": name}), ".onnx").content)
        assert [value.name for value in made.graph.input] == [expected]


@pytest.mark.parametrize(
    ("ending", "rounding", "message"),
    [
        (
            ".onnx",
            Rounding.DOUBLE,
            r"layer0, layer1: accumulators become int8 by rounding twice, and an ONNX operator rounds once, .*: export "
            r"as \.tflite, or to a folder \(network.json, arrays.npz\), which says either$",
        ),
        (
            ".tflite",
            Rounding.SINGLE,
            r"layer0: accumulators become int8 by rounding once, and CONV_2D and DEPTHWISE_CONV_2D round twice, so "
            r"codes would differ: export as \.onnx, or to a folder \(network.json, arrays.npz\), which says either$",
        ),
    ],
)
def test_another_rounding_is_refused(ending, rounding, message):
    network = small()
    for name in ("layer0", "layer1"):
        network = changed(network, name, rounding=rounding)
    with pytest.raises(ValueError, match=message):
        export_file(network, ending)


@pytest.mark.parametrize("ending", EXPORTED)
def test_what_only_the_accelerator_does_is_refused_all_at_once(ending):
    network = changed(small(), "layer0", threshold=4)
    network = changed(network, "layer1", select=Select(kind="elements", count=3))
    expected = "layer0 takes activations below 4 for zero; layer1 multiplies selected elements of its input alone$"
    with pytest.raises(ValueError, match=expected):
        export_file(network, ending)


def test_a_pool_of_one_position_that_clamps_is_refused():
    with pytest.raises(ValueError, match="layer5 is a pool of one position that only clamps"):
        export_file(odd_network(2), ".tflite")


def test_multipliers_that_no_scales_say_are_refused():
    """Of 40 channels whose sums take 21 bits, each would have to be rounded as by 31 bits."""
    rng = np.random.default_rng(0)
    maker = NetworkMaker(rng, (4, 4, 4))
    wide = maker.conv(INPUT, 40, (4, 4))
    maker.head(wide, 3)
    weight = np.full((40, 4, 4, 4), -127, dtype=np.int8)
    weight[:, 0, 0, 0] = -126
    fields = {
        "weight": weight,
        "bias": np.zeros(40, dtype=np.int32),
        "multiplier": rng.integers(1 << 30, 1 << 31, 40).astype(np.int32),
        "shift": np.full(40, 13, dtype=np.int32),
    }
    network = changed(maker.network("wide"), wide, clamp=(-128, 127), **fields)
    with pytest.raises(ValueError, match=r"layer0, channels (\d+, ){3}\d+ and \d+ more: no scale of single precision"):
        export_file(network, ".tflite")


def test_what_is_read_back_otherwise_is_not_given_out(monkeypatch):
    network = small()
    assert export_file(network, ".tflite").content
    form = FORMS[".tflite"]
    weight = network.layer("layer1").weight.copy()
    weight[0, 0, 0, 0] ^= 1

    def damaged(plain, scales):
        return form.write(changed(plain, "layer1", weight=weight), scales)

    monkeypatch.setitem(FORMS, ".tflite", replace(form, write=damaged))
    with pytest.raises(ValueError, match="layer1: conv2d must be read back as it was written; please report"):
        export_file(network, ".tflite")


def test_other_logits_are_not_given_out(monkeypatch):
    """Where the comparison of layers would miss something."""
    network, other = small(), small()
    bias = other.layers[-1].bias + np.array([0, 0, 1], dtype=np.int32)
    other = changed(other, other.layers[-1].name, bias=bias)
    form = FORMS[".tflite"]
    monkeypatch.setitem(FORMS, ".tflite", replace(form, read=lambda _: (other, "")))
    monkeypatch.setattr(export, "compare", lambda *_: 0)
    with pytest.raises(ValueError, match="small: what is read back must have the same logits"):
        export_file(network, ".tflite")


def test_clamps_of_random_networks_are_those_of_activations():
    """What the other tests are of."""
    for layer in exportable(1, ".tflite").layers:
        assert getattr(layer, "raw", False) or layer.clamp in [clamp_of(name, layer.output) for name in ACTIVATIONS]
