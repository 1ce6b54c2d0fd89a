import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from hw.arrays import read_npy, read_npz

ARRAYS = {
    "a": np.arange(1000, dtype=np.float64).reshape(10, 100),
    "b.weight": np.array(7, np.int8),
    "c/0": np.zeros((0, 3), np.uint16),
    "d": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
}


def npz(compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **ARRAYS)
    return stream.getvalue()


def member(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    npy.write_array(stream, array, version, allow_pickle=True)
    return stream.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_whole_files(tmp_path, compressed):
    path = tmp_path / "arrays.npz"
    path.write_bytes(npz(compressed))
    found = read_npz(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    for version in ((1, 0), (2, 0)):
        path.write_bytes(member(ARRAYS["a"], version))
        np.testing.assert_array_equal(read_npy(path), ARRAYS["a"], strict=True)


HEADER = struct.Struct("<6s2BH")


def claiming(shape: str, dtype: str = "'<f8'") -> bytes:
    """A file whose header says so, and that holds eight bytes."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return HEADER.pack(b"\x93NUMPY", 1, 0, len(text)) + text + bytes(8)


DAMAGED_HEADER = "its header must say type, order and shape as NumPy writes them: it is damaged$"
DAMAGED = {
    "half": (npz()[: len(npz()) // 2], "File is not a zip file"),
    "empty": (b"", "File is not a zip file"),
    "an npy file": (member(ARRAYS["a"]), "File is not a zip file"),
    "a flipped byte": (npz()[:500] + b"\xff" + npz()[501:], "Bad CRC-32 for file 'a.npy'"),
    "another member": (archive({"a.txt": b"text"}), r"members must be npy files of different names, not 'a\.txt'"),
    "a pickle": (archive({"a.npy": member(np.array([{}], object))}), "an array must hold numbers, not object"),
    "texts": (archive({"a.npy": member(np.array(["text"]))}), "an array must hold numbers, not <U4"),
    "an unknown format": (archive({"a.npy": b"\x93NUMPY\x09\x00"}), r"format must be 1\.0 or 2\.0, not 9\.0"),
    "no array": (archive({"a.npy": b"nothing at all"}), "the magic string is not correct"),
    "a negative shape": (archive({"a.npy": claiming("(-1,)")}), r"of shape \(-1,\) .* must take -8 bytes, not 8"),
    "no header": (archive({"a.npy": claiming("(1 << 40,)")}), DAMAGED_HEADER),
    "half a header": (archive({"a.npy": claiming("((1,)")}), DAMAGED_HEADER),
    "a header of Python 2": (archive({"a.npy": claiming("(2L,)")}), "must take 16 bytes, not 8"),
    "terabytes": (archive({"a.npy": claiming("(999999999999,)")}), r"must take 7999999999992 bytes, not 8"),
    "less than there is": (archive({"a.npy": claiming("()", "'<f4'")}), "must take 4 bytes, not 8"),
}


@pytest.mark.parametrize(("data", "expected"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_archives_are_refused(tmp_path, data, expected):
    path = tmp_path / "arrays.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"arrays\.npz: must be an npz file of arrays: .*{expected}"):
        read_npz(path)


@pytest.mark.parametrize(
    "data", [npz(), b"", member(ARRAYS["a"])[:-1], claiming("(2,)"), member(np.array([{}], object))]
)
def test_damaged_arrays_are_refused(tmp_path, data):
    path = tmp_path / "array.npy"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"array\.npy: must be an npy file of an array: "):
        read_npy(path)


def test_what_would_take_too_much_memory_is_refused(tmp_path):
    """A bomb: 64 MiB of zeros take 64 KiB."""
    path = tmp_path / "arrays.npz"
    path.write_bytes(archive({"a.npy": member(np.zeros(1 << 23))}))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(ValueError, match="its arrays must take at most 67108864 bytes, not 67108992"):
        read_npz(path, 1 << 26)
    assert read_npz(path, (1 << 26) + 128)["a"].shape == (1 << 23,)
    with pytest.raises(ValueError, match=r"arrays\.npz: must take at most 100 bytes, not \d+$"):
        read_npz(path, 100)


@pytest.mark.parametrize("read", [read_npy, read_npz])
def test_what_is_no_file_is_refused(tmp_path, read):
    with pytest.raises(ValueError, match=r"absent: cannot be read: No such file or directory$"):
        read(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"must be a file, not a folder or a device$"):
        read(tmp_path)


@settings(max_examples=200)
@given(st.data())
def test_changed_bytes_are_refused_or_harmless_but_never_anything_else(tmp_path_factory, data):
    compressed = data.draw(st.booleans())
    content = bytearray(npz(compressed))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "arrays.npz"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with contextlib.suppress(ValueError):
        assert read_npz(path)
