import hashlib
import json
import os
import struct
import threading

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw import container

MAGIC, VERSION = b"OFFRCKPT", 3
MANIFEST = {"name": "π", "numbers": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
ARRAYS = {
    "weights/a": np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 4),
    "bias": np.array([-(1 << 31), 0, (1 << 31) - 1], dtype=np.int32),
    "wide": np.array([[1 << 62]], dtype=np.int64),
    "empty": np.empty((0, 3), dtype=np.uint8),
}
HEADER = 8 + 4 + 8 + 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file.bin"


@pytest.fixture
def written(path):
    container.write(path, MAGIC, VERSION, MANIFEST, ARRAYS)
    return path


def sealed(body: bytes, magic: bytes = MAGIC, version: int = VERSION) -> bytes:
    """A file whose header and checksum are right, whatever its body."""
    header = struct.pack("<8sIQ", magic, version, len(body))
    return header + hashlib.sha256(header + body).digest() + body


def test_round_trip(written):
    manifest, arrays = container.read(written, MAGIC, VERSION)
    assert manifest == MANIFEST
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_views_and_scalars_are_stored_as_they_look(path):
    base = np.arange(24, dtype=np.int16).reshape(4, 6)
    container.write(path, MAGIC, VERSION, {}, {"view": base[::-2, 1:5].T})
    np.testing.assert_array_equal(container.read(path, MAGIC, VERSION)[1]["view"], base[::-2, 1:5].T, strict=True)


def test_same_contents_same_bytes(tmp_path):
    for name in ("a", "b"):
        container.write(tmp_path / name, MAGIC, VERSION, MANIFEST, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    reordered = dict(reversed(MANIFEST.items()))
    container.write(tmp_path / "c", MAGIC, VERSION, reordered, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_layout_is_the_documented_one(written):
    data = written.read_bytes()
    assert data == sealed(data[HEADER:])
    assert json.loads(safetensors.numpy.load(data[HEADER:])["manifest"].tobytes()) == MANIFEST
    assert written.stat().st_mode & 0o777 == 0o644


def test_missing_file_is_refused(path):
    with pytest.raises(ValueError, match=r"file\.bin: cannot be read: No such file or directory$"):
        container.read(path, MAGIC, VERSION)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory$"):
        container.read(tmp_path, MAGIC, VERSION)


def test_truncated_at_every_length(written):
    data = written.read_bytes()
    for length in range(len(data)):
        written.write_bytes(data[:length])
        expected = (
            f"truncated: {length} bytes are less than the header's {HEADER}$"
            if length < HEADER
            else f"the body must be {len(data) - HEADER} bytes, not {length - HEADER}$"
        )
        with pytest.raises(ValueError, match=expected):
            container.read(written, MAGIC, VERSION)


def test_extended_is_refused(written):
    data = written.read_bytes()
    written.write_bytes(data + b"\0")
    with pytest.raises(ValueError, match="truncated or extended"):
        container.read(written, MAGIC, VERSION)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_is_refused(written, data):
    content = bytearray(written.read_bytes())
    position = data.draw(st.integers(0, 8 * len(content) - 1))
    content[position // 8] ^= 1 << position % 8
    damaged = written.with_name("damaged.bin")
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.bin: (must be a trained|must be of version|truncated|altered)"):
        container.read(damaged, MAGIC, VERSION)


def test_other_magic_and_version_are_refused(written):
    with pytest.raises(ValueError, match=r"must be a program, not a trained or compressed network$"):
        container.read(written, b"OFFRPROG", VERSION)
    with pytest.raises(ValueError, match=r"must be of version 4, not 3$"):
        container.read(written, MAGIC, 4)


def test_an_array_called_manifest_is_refused(path):
    with pytest.raises(ValueError, match=r"file\.bin: no array may be called 'manifest'$"):
        container.write(path, MAGIC, VERSION, {}, {"manifest": np.zeros(1)})
    assert not path.exists()


def typed(dtype: str, size: int) -> bytes:
    """A safetensors body whose array has an exotic element type."""
    header = json.dumps({"manifest": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def manifest_bytes(text: bytes) -> bytes:
    return safetensors.numpy.save({"manifest": np.frombuffer(text, dtype=np.uint8)})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no safetensors at all",
        b"\xff" * 64,
        struct.pack("<Q", 1 << 60) + b"{}",
        safetensors.numpy.save({"other": np.zeros(3, dtype=np.uint8)}),
        manifest_bytes(b"{not json"),
        manifest_bytes(b"\xff\xfe\xfa"),
        manifest_bytes(b""),
        manifest_bytes(b"[" * 100_000),
        typed("BF16", 2),
        typed("F8_E4M3", 1),
        typed("X7", 1),
    ],
    ids=[
        "empty",
        "text",
        "ones",
        "huge header",
        "no manifest",
        "no JSON",
        "no UTF-8",
        "empty JSON",
        "deep JSON",
        "bf16",
        "f8",
        "x7",
    ],
)
def test_hostile_bodies_with_the_right_checksum_are_refused(tmp_path, body):
    path = tmp_path / "hostile"
    path.write_bytes(sealed(body))
    with pytest.raises(ValueError, match="hostile: the body is not a manifest with arrays: "):
        container.read(path, MAGIC, VERSION)


@pytest.mark.parametrize(("text", "kind"), [(b"[1]", "list"), (b"3", "int"), (b'"x"', "str"), (b"null", "NoneType")])
def test_a_manifest_that_is_no_table_is_refused(tmp_path, text, kind):
    path = tmp_path / "hostile"
    path.write_bytes(sealed(manifest_bytes(text)))
    with pytest.raises(ValueError, match=f"the manifest must be a table, not {kind}$"):
        container.read(path, MAGIC, VERSION)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_random_bodies_with_the_right_checksum_are_refused(tmp_path, body):
    path = tmp_path / "random"
    path.write_bytes(sealed(body))
    with pytest.raises(ValueError, match="random: "):
        container.read(path, MAGIC, VERSION)


def test_interrupted_write_leaves_the_old_file_and_nothing_else(written, monkeypatch):
    before = written.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    for name in ("fsync", "chmod", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                container.write(written, MAGIC, VERSION, {}, {})
        assert written.read_bytes() == before
        assert list(written.parent.iterdir()) == [written]


def test_write_replaces_whole(written):
    container.write(written, MAGIC, VERSION, {"new": 1}, {})
    assert container.read(written, MAGIC, VERSION) == ({"new": 1}, {})


def test_a_key_that_stands_twice_is_refused(path):
    body = safetensors.numpy.save({"manifest": np.frombuffer(b'{"a": {"b": 1, "b": 2}}', dtype=np.uint8)})
    path.parent.mkdir()
    path.write_bytes(sealed(body))
    with pytest.raises(ValueError, match=r"file.bin: the body is not a manifest with arrays: 'b' stands twice"):
        container.read(path, MAGIC, VERSION)


def test_what_a_header_claims_is_not_read(path):
    """A file without contents, of a size that no memory holds."""
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(struct.pack("<8sIQ", MAGIC, VERSION, 1 << 60) + bytes(32))
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"truncated or extended: the body must be 1152921504606846976 bytes, not \d+"):
        container.read(path, MAGIC, VERSION)
    with pytest.raises(ValueError, match="must be a program, not a trained or compressed network"):
        container.read(path, b"OFFRPROG", VERSION)


def test_pipes_are_read(written, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(written.read_bytes()))
    writer.start()
    assert container.read(pipe, MAGIC, VERSION)[0] == MANIFEST
    writer.join()
