import copy
import hashlib
import json
import re
import struct
import zlib
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw import container
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.program.program import MAGIC, VERSION, Program, load
from hw.program.protocol import Memory, memory_depths
from tests.hw.networks import runnable

CONFIG = preset("tiny").replace(accumulator_bits=32)


@cache
def program(cores: int = 1) -> Program:
    """A network with all kinds of layers, in so many cores."""
    return compile_network(runnable(), CONFIG if cores == 1 else CONFIG.replace(cores=cores, pes=8))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A good program file."""
    place = tmp_path_factory.mktemp("program") / "net.offramp"
    program().save(place)
    return place


def refusal(path: Path) -> str:
    """Why a file is refused: one line that begins with its path."""
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .") as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def manifest() -> dict[str, Any]:
    return {
        "config": asdict(program().config),
        "config_digest": program().config.digest(),
        "network": program().network.to_dict(),
        "commands": [command.to_dict() for command in program().commands],
    }


def arrays() -> dict[str, np.ndarray]:
    found = {f"network/{name}": array for name, array in program().network.arrays()}
    return found | {f"images/{name}": image for name, image in program().images.items()}


def rewritten(folder: Path, description: Any, images: dict[str, np.ndarray]) -> str:
    """Why a file with a right checksum and these contents is refused."""
    path = folder / "hostile"
    container.write(path, MAGIC, VERSION, description, images)
    return refusal(path)


def test_what_is_saved_is_loaded(path):
    found = load(path, CONFIG)
    assert found.config == CONFIG
    assert found.commands == program().commands
    assert found.network.to_dict() == program().network.to_dict()
    for name, array in program().network.arrays():
        np.testing.assert_array_equal(dict(found.network.arrays())[name], array, strict=True)
    assert found.images.keys() == program().images.keys()
    for name, image in program().images.items():
        np.testing.assert_array_equal(found.images[name], image, strict=True)


def test_a_loaded_program_is_saved_equally(path, tmp_path):
    load(path).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_file_tests_rewrite_is_the_file(path, tmp_path):
    container.write(tmp_path / "same", MAGIC, VERSION, manifest(), arrays())
    assert (tmp_path / "same").read_bytes() == path.read_bytes()


def test_a_program_for_another_config_is_refused(path):
    other = CONFIG.replace(job_queue=4)
    message = rf"^{re.escape(str(path))}: it was compiled for config {CONFIG.digest()[:8]}, not {other.digest()[:8]}; "
    with pytest.raises(ValueError, match=message + r"compile it again$"):
        load(path, other)


def test_no_file_and_no_program_are_refused(tmp_path):
    assert refusal(tmp_path / "none") == "cannot be read: No such file or directory"
    assert refusal(tmp_path) == "cannot be read: Is a directory"
    (tmp_path / "text").write_text("a letter, not a program; but longer than the header of a program file is, by far")
    assert refusal(tmp_path / "text") == "must be a program, not a file of another kind"


def test_truncated_files_are_refused(path, tmp_path):
    data = path.read_bytes()
    short = tmp_path / "short"
    for length in [*range(60), *range(60, len(data), 97), len(data) - 1]:
        short.write_bytes(data[:length])
        assert refusal(short).startswith("truncated")
    short.write_bytes(data + b"\0")
    assert refusal(short).startswith("truncated or extended")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_flipped_bits_are_refused(path, tmp_path, place, bit):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    broken = tmp_path / "broken"
    broken.write_bytes(data)
    assert refusal(broken)


def test_another_version_is_refused(tmp_path):
    newer = tmp_path / "newer"
    container.write(newer, MAGIC, VERSION + 1, manifest(), arrays())
    assert refusal(newer) == f"must be of version {VERSION}, not {VERSION + 1}"


def test_a_config_that_is_not_that_of_the_digest_is_refused(tmp_path):
    changed = manifest()
    changed["config"]["job_queue"] = 4
    assert rewritten(tmp_path, changed, arrays()) == "its config does not match the digest of its config"


def test_images_for_other_sizes_are_refused_though_the_digest_is_right(tmp_path):
    changed = manifest() | {"config": asdict(preset("single")), "config_digest": preset("single").digest()}
    message = rewritten(tmp_path, changed, arrays())
    assert re.match(r"lists image must be uint32 of shape \(8, 'words'\), not uint32 \(4, \d+\)$", message)


@pytest.mark.parametrize("key", ["config", "config_digest", "network", "commands"])
def test_missing_keys_are_refused(tmp_path, key):
    changed = manifest()
    del changed[key]
    assert rewritten(tmp_path, changed, arrays()) == f"the description is incomplete or has unknown keys: '{key}'"


def test_unknown_keys_and_arrays_are_refused(tmp_path):
    keys = "commands, config, config_digest, network"
    found = rewritten(tmp_path, manifest() | {"more": 1}, arrays())
    assert found == f"the description must be of {keys}, not ['more']"
    found = rewritten(tmp_path, manifest(), arrays() | {"other/program": np.zeros(3, np.uint32)})
    assert found == "arrays must be of network and images, not ['other/program']"


@pytest.mark.parametrize(
    "name", ["images/program", "images/layers", "images/lists", "images/bias", "network/stem/weight"]
)
def test_missing_arrays_are_refused(tmp_path, name):
    changed = arrays()
    del changed[name]
    assert rewritten(tmp_path, manifest(), changed)


@pytest.mark.parametrize("name", ["program", "layers", "lists", "bias", "multiplier", "shift"])
@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.astype(np.int32),
        lambda image: image.astype(np.float32),
        lambda image: image.astype(np.uint64),
        lambda image: image[None],
        lambda image: image.reshape(-1)[0],
        lambda image: image[..., :0],
        lambda image: np.repeat(image, 5000, axis=-1),
    ],
    ids=["int32", "float32", "uint64", "axis more", "no axis", "empty", "too long"],
)
def test_images_of_other_type_or_shape_are_refused(tmp_path, name, change):
    changed = arrays()
    changed[f"images/{name}"] = change(changed[f"images/{name}"])
    assert rewritten(tmp_path, manifest(), changed)


def edit(description: Any, place: tuple, value: Any) -> Any:
    """A description with one value changed."""
    changed = copy.deepcopy(description)
    there = changed
    for key in place[:-1]:
        there = there[key]
    there[place[-1]] = value
    return changed


#: Number of the command of the addition.
SUM = 3


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("commands", 0, "tensor"), "tail", r"net has no layer 'tail'"),
        (("commands", 0, "layer"), "tail", r"commands must be of the layers stem, .*, not tail, .*"),
        (
            ("commands", 0, "channels"),
            [0, 5],
            r"command 0: channels must be within stem's 0\.\.4 and begin at a multiple of 8, not 0\.\.5",
        ),
        (("commands", 0, "channels"), [2, 2], r"command 0: channels must be within stem's 0\.\.4 .*, not 2\.\.2"),
        (("commands", 0, "channels"), [0, 0], r"command 0: channels must be within stem's 0\.\.4 .*, not 0\.\.0"),
        (("commands", 0, "channels"), [0], r"stem: channels must be two integers, not \(0,\)"),
        (("commands", 0, "channels"), ["a", "b"], r"stem: channels must be two integers, not \('a', 'b'\)"),
        (("commands", 0, "channels"), [2, 4], r"command 0: channels must be within stem's 0\.\.4 .*, not 2\.\.4"),
        (("commands", 0, "rows"), [[0, 2], [2, 3]], r"command 0: 2 bands of 1 groups must be at most the 1 cores"),
        (("commands", 0, "rows"), [], r"stem: rows must be two integers of each band, not \(\)"),
        (("commands", 0, "rows"), [[0, "x"]], r"stem: rows must be two integers of each band, not \(\(0, 'x'\),\)"),
        (
            ("commands", 0, "rows"),
            [[0, 2], [1, 3]],
            r"command 0: rows of bands must be in order within stem's 0\.\.3, .*",
        ),
        (("commands", 0, "rows"), [[1, 1]], r"command 0: rows of bands must .* 0\.\.3, not \(\(1, 1\),\)"),
        (("commands", 0, "rows"), [[0, 4]], r"command 0: rows of bands must .* 0\.\.3, not \(\(0, 4\),\)"),
        (("commands", 0, "rows"), [[-1, 3]], r"command 0: rows of bands must .* 0\.\.3, not \(\(-1, 3\),\)"),
        (("commands", 0, "rows"), [[0, 2]], r"command 0: core 0's outputs, .* must be \[.*\], not \[.*\]"),
        (("commands", 0, "groups"), "two", r"stem: groups must be a positive integer, not 'two'"),
        (("commands", 0, "groups"), 0, r"stem: groups must be a positive integer, not 0"),
        (("commands", 0, "name"), 3, r"name must be a string, not 3"),
        (("commands", 0, "name"), "stam", r"command 0: name must be stem, not 'stam'"),
        (("commands", 0, "name"), "stem@0[0:4]", r"command 0: name must be stem, not 'stem@0\[0:4\]'"),
        (("commands", 0, "name"), "stem<0:2>", r"command 0: name must be stem, not 'stem<0:2>'"),
        (("commands", 0, "name"), "", r"command 0: name must be stem, not ''"),
        (("commands", 0, "macs"), "many", r"stem: macs must be an integer of at least 0, not 'many'"),
        (("commands", 1, "layer"), "stem", r"commands must be of the layers stem, early, .*, not stem, inner, .*"),
        (("commands", SUM, "tensor"), "head", rf"command {SUM}: rows of bands must .* head's 0..1, not .*"),
        (("commands", SUM, "tensor"), "inner", rf"command {SUM}: branch does not make inner"),
        (
            ("commands", SUM, "tensor"),
            "branch",
            rf"command {SUM}: core 0's outputs, channels, raw, zero point, first .* must be .*",
        ),
        (("commands", SUM, "layer"), "stem", r"commands must be of the layers .*, not .*"),
        (("commands",), [], r"program image holds 7 layers, its description 0"),
        (("network", "exits", 0, "threshold"), 999, r"program image decides .*1000.*, the network .*999.*"),
        (("network", "input", "zero_point"), 5, r"program image takes .*\(48, 2, -128\), the network \(48, 2, 5\)"),
        (("network", "input", "shape"), [8, 3, 2], r"stem: output must be \(4, 3, 4\), not \(3, 4, 4\)"),
    ],
)
def test_a_description_of_another_network_is_refused(tmp_path, place, value, message):
    assert program().commands[SUM].tensor == "sum"
    assert re.fullmatch(message, rewritten(tmp_path, edit(manifest(), place, value), arrays()))


def test_a_program_of_other_layers_is_refused():
    with pytest.raises(ValueError, match=r"^program image holds 7 layers, its description 6$"):
        replace(program(), commands=program().commands[1:])


def places(value: Any, here: tuple = ()) -> list[tuple]:
    """Every place in a description that holds something."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in [(*here, key), *places(item, (*here, key))]]


ABSURD = [
    None, True, -1, 0, 1, 2, 1 << 31, 1 << 64, 10**400, 0.5, -0.0, float("inf"), float("nan"), "", "input", "\ud800",
    "../etc", [], [[]], {}, {"a": 1}, [None] * 3, [1] * 4, [10**30, 1, 1],
]  # fmt: skip


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_descriptions_are_refused_or_run(tmp_path, data):
    """Whatever stands in a checksummed description: a sentence, or a program whose timing can be computed."""
    description = json.loads(json.dumps(manifest()))
    anywhere = st.sampled_from(places(description))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(anywhere)
        value = data.draw(st.sampled_from(ABSURD))
        try:
            description = edit(description, place, value)
        except (TypeError, KeyError, IndexError):
            continue  # the first change took the second one's place away
    path = tmp_path / "hostile"
    container.write(path, MAGIC, VERSION, description, arrays())
    try:
        found = load(path)
    except ValueError as error:
        message = str(error)
    else:
        message = f"{path}: {found.network.name}"
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=40), st.sampled_from([b"[]", b"3", b"null", b"[" * 100_000, b"\xff\xfe"])))
def test_any_bytes_as_description_are_refused(tmp_path, text):
    path = tmp_path / "bytes"
    container.write(path, MAGIC, VERSION, {}, arrays())
    assert refusal(path)
    data = container_with(text)
    path.write_bytes(data)
    assert refusal(path)


def container_with(text: bytes) -> bytes:
    """A container whose manifest is these bytes."""
    body = safetensors.numpy.save({"manifest": np.frombuffer(text, dtype=np.uint8), **arrays()})
    header = struct.pack("<8sIQ", MAGIC, VERSION, len(body))
    return header + hashlib.sha256(header + body).digest() + body


def test_sizes_are_those_of_the_images():
    sizes = program().size_words()
    assert sizes["program"] == (len(program().images["program"]), 256)
    assert sizes["layers"] == (program().images["layers"].shape[1], 512)
    assert sizes["lists"] == (program().images["lists"].shape[1], 2048)
    assert sizes["bias"] == sizes["multiplier"] == sizes["shift"] == (program().images["bias"].shape[1], 256)


def test_writes_fill_every_memory():
    writes = {(memory, core): words for memory, core, words in program(2).writes()}
    assert len(writes) == len(program(2).writes())
    cores = {(memory, core) for memory in memory_depths(program(2).config) for core in range(2)}
    assert writes.keys() == cores - {(Memory.PROGRAM.value, 1)}
    np.testing.assert_array_equal(writes[Memory.PROGRAM.value, 0], program(2).images["program"])
    np.testing.assert_array_equal(writes[Memory.LISTS.value + 3, 1], program(2).images["lists"][8 + 3])
    np.testing.assert_array_equal(writes[Memory.LAYERS.value, 1], program(2).images["layers"][1])
    for first, name in enumerate(("multiplier", "shift")):
        np.testing.assert_array_equal(writes[Memory.SCALE.value, 0][first::2], program(2).images[name][0])


def test_the_checksum_is_that_of_all_bytes_together():
    payloads = [words for *_, words in program().writes()]
    assert Program.checksum(payloads) == zlib.crc32(b"".join(words.astype("<u4").tobytes() for words in payloads))
    assert Program.checksum([np.frombuffer(b"1234", dtype="<u4"), np.frombuffer(b"5678", dtype="<u4")]) == zlib.crc32(
        b"12345678"
    )
