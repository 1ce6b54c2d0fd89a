"""Reads NumPy's files believing nothing: no pickles, and no memory taken for what a header only claims."""

import io
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

__all__ = ["read_npy", "read_npz"]

#: Bytes that the arrays of a file may take.
LARGEST = 1 << 30


def read_npy(path: Path, largest: int = LARGEST) -> np.ndarray:
    """The array of an npy file.

    Raises
    ------
    ValueError
        When the file can't be read, is no such file, is damaged, or its array is larger than ``largest`` bytes.
    """
    data = _contents(path, largest)
    try:
        return _array(data)
    except Exception as error:  # whatever a damaged header makes the reader raise
        raise ValueError(f"{path}: must be an npy file of an array: {(error or type(error).__name__)}") from error


def read_npz(path: Path, largest: int = LARGEST) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name.

    Raises
    ------
    ValueError
        When the file can't be read, is no such file, is damaged, or its arrays are larger than ``largest`` bytes.
    """
    data = _contents(path, largest)
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > largest:
                raise ValueError(f"its arrays must take at most {largest} bytes, not {size}")
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename or name in arrays:
                    raise ValueError(f"its members must be npy files of different names, not {member.filename!r}")
                arrays[name] = _array(archive.read(member))
    except Exception as error:  # whatever a damaged archive makes the reader raise
        raise ValueError(f"{path}: must be an npz file of arrays: {(error or type(error).__name__)}") from error
    return arrays


def _contents(path: Path, largest: int) -> bytes:
    """Bytes of a regular file."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: must be a file, not a folder or a device")
        size = path.stat().st_size
        if size > largest:
            raise ValueError(f"{path}: must take at most {largest} bytes, not {size}")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error


def _array(data: bytes) -> np.ndarray:
    """The array of an npy file's bytes, whose header must say exactly what follows."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array's format must be 1.0 or 2.0, not {version[0]}.{version[1]}")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
            shape, _, dtype = header(stream)
    except Exception as error:  # whatever a damaged header makes Python's parser raise
        raise ValueError("its header must say type, order and shape as NumPy writes them: it is damaged") from error
    if dtype.kind not in "biufc":
        raise ValueError(f"an array must hold numbers, not {dtype}")
    claimed, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if min(shape, default=0) < 0 or claimed != there:
        raise ValueError(f"an array of shape {shape} and type {dtype} must take {claimed} bytes, not {there}")
    return npy.read_array(io.BytesIO(data), allow_pickle=False)
