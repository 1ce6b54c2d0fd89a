"""One file format for everything Offramp keeps: named arrays and a manifest, checked before anything is believed.

Layout, little endian::

    8 bytes   magic, names the kind of file
    4 bytes   version
    8 bytes   length of the body
    32 bytes  SHA-256 of magic, version, length and body
    body      a safetensors file whose tensor "manifest" is JSON in UTF-8

No pickle, nothing executable. Files are written beside their place and moved there whole.
"""

import hashlib
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hw.output import write_file

__all__ = ["read", "write"]

#: What files of each magic hold.
_KINDS = {
    b"OFFRPROG": "a program",
    b"OFFRCKPT": "a trained or compressed network",
    b"OFFRPART": "a part of a training",
    b"OFFRNETW": "an integer network",
}
_HEADER = struct.Struct("<8sIQ")
_DIGEST = 32


def write(path: Path, magic: bytes, version: int, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a container file, atomically.

    Parameters
    ----------
    magic : 8 bytes
        One of those of a kind of file.
    arrays : dict of str to array
        No array may be called "manifest".

    Raises
    ------
    ValueError
        When one is.
    """
    if "manifest" in arrays:
        raise ValueError(f"{path}: no array may be called 'manifest'")
    text = np.frombuffer(json.dumps(manifest, sort_keys=True).encode(), dtype=np.uint8)
    body = safetensors.numpy.save({"manifest": text, **{k: np.asarray(v, order="C") for k, v in arrays.items()}})
    header = _HEADER.pack(magic, version, len(body))
    digest = hashlib.sha256(header + body).digest()
    write_file(path, header + digest + body)


def read(path: Path, magic: bytes, version: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and arrays of a container file.

    Raises
    ------
    ValueError
        When the file can't be read, is of another kind or version, truncated or altered.
    """
    header, digest, body = _parts(Path(path), magic, version)
    if hashlib.sha256(header + body).digest() != digest:
        raise ValueError(f"{path}: altered: the checksum does not match the contents")
    try:
        arrays = safetensors.numpy.load(body)
        manifest = json.loads(arrays.pop("manifest").tobytes(), object_pairs_hook=_once)
    except (SafetensorError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the body is not a manifest with arrays: {error}") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: the manifest must be a table, not {type(manifest).__name__}")
    return manifest, arrays


def _parts(path: Path, magic: bytes, version: int) -> tuple[bytes, bytes, bytes]:
    """Header, digest and body; the body is read only when the header is right and says how long it is."""
    start = _HEADER.size + _DIGEST
    try:
        with path.open("rb") as file:
            head, kind = file.read(start), os.fstat(file.fileno())
            if len(head) < start:
                raise ValueError(f"{path}: truncated: {len(head)} bytes are less than the header's {start}")
            found, number, length = _HEADER.unpack_from(head)
            if found != magic:
                raise ValueError(f"{path}: must be {_KINDS[magic]}, not {_KINDS.get(found, 'a file of another kind')}")
            if number != version:
                raise ValueError(f"{path}: must be of version {version}, not {number}")
            there = kind.st_size - start if stat.S_ISREG(kind.st_mode) else length
            body = file.read() if there == length else b""
            if len(body) != length:
                there = len(body) or there
                raise ValueError(f"{path}: truncated or extended: the body must be {length} bytes, not {there}")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    return head[: _HEADER.size], head[_HEADER.size :], body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of a manifest, each of whose keys stands once."""
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice in one table")
    return table
