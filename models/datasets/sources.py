"""Data files: where they lie, what their checksums are, and readers that execute nothing.

A folder follows torchvision's layout, so an existing download serves. A file that isn't there is fetched from its
official address, checked, and put in place whole.
"""

import gzip
import hashlib
import io
import math
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hw.output import write_file

__all__ = [
    "CIFAR10_FILES",
    "DATA_FILES",
    "FASHION_MNIST_FILES",
    "Progress",
    "cifar10_batch",
    "cifar10_files",
    "data_folder",
    "fashion_mnist_files",
    "idx",
]

#: MD5 of the CIFAR-10 batch files (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").
CIFAR10_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
#: MD5 of the Fashion-MNIST idx files (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747).
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}

_CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
_FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

#: Folders of the data sets' files, in the data folder, as torchvision calls them.
_CIFAR10, _FASHION_MNIST = "cifar-10-batches-py", "FashionMNIST/raw"
#: All files of data sets, by their names in the data folder.
DATA_FILES = (
    *(f"{_CIFAR10}/{name}" for name in CIFAR10_FILES),
    *(f"{_FASHION_MNIST}/{name}" for name in FASHION_MNIST_FILES),
)

_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20
_BATCH = 10_000  # images in a CIFAR-10 batch file
_RUN = 1_000  # list items that pickle appends at once
_RUNS = _BATCH // _RUN
_CIFAR_PIXELS = 3 * 32 * 32

#: Called with what is done, what there is to do in all (0 when unknown) and a text.
Progress = Callable[[int, int, str], None]


def data_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the data sets: ``root``, else the environment's ``OFFRAMP_DATA``, else ``data`` where we stand."""
    return Path(root or os.environ.get("OFFRAMP_DATA") or "data")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _checked(path: Path, expected: str) -> bytes:
    data = path.read_bytes()
    if _md5(data) != expected:
        raise ValueError(f"{path}: MD5 must be {expected}, not {_md5(data)}: remove the file and fetch it again")
    return data


def _fetch(url: str, expected: str, progress: Progress | None) -> bytes:
    # Long to load, and every command reads this file.
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            buffer = io.BytesIO()
            while chunk := response.read(_CHUNK):
                buffer.write(chunk)
                if progress:
                    progress(buffer.tell(), total, f"download {url.rsplit('/', 1)[-1]}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"{url} cannot be fetched ({reason}): without internet, "
            f"put the files into a folder and set OFFRAMP_DATA to it"
        ) from error
    data = buffer.getvalue()
    if _md5(data) != expected:
        raise ValueError(f"{url}: MD5 of the download must be {expected}, not {_md5(data)}")
    return data


def cifar10_files(root: Path, progress: Progress | None = None) -> dict[str, bytes]:
    """Contents of the six batch files below ``root``, each verified; fetched when any is missing.

    Raises
    ------
    ValueError
        When a checksum is wrong.
    ConnectionError
        When a file is missing and the official address can't be reached.
    """
    folder = root / _CIFAR10
    if not all((folder / name).is_file() for name in CIFAR10_FILES):
        archive = _fetch(_CIFAR10_URL, _CIFAR10_MD5, progress)
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
            for name in CIFAR10_FILES:
                member = members.extractfile(f"{_CIFAR10}/{name}")
                if member is None:
                    raise ValueError(f"{_CIFAR10_URL}: the archive must hold the file {name}")
                write_file(folder / name, member.read())
    return {name: _checked(folder / name, md5) for name, md5 in CIFAR10_FILES.items()}


def fashion_mnist_files(root: Path, progress: Progress | None = None) -> dict[str, bytes]:
    """Contents of the four compressed idx files below ``root``, each verified; missing ones are fetched.

    Raises
    ------
    ValueError
        When a checksum is wrong.
    ConnectionError
        When a file is missing and the official address can't be reached.
    """
    folder = root / _FASHION_MNIST
    for name, md5 in FASHION_MNIST_FILES.items():
        if not (folder / name).is_file():
            write_file(folder / name, _fetch(_FASHION_MNIST_URL + name, md5, progress))
    return {name: _checked(folder / name, md5) for name, md5 in FASHION_MNIST_FILES.items()}


def idx(data: bytes, name: str = "idx file") -> np.ndarray:
    """The array of a gzip-compressed idx file of unsigned bytes (yann.lecun.com/exdb/mnist, "the IDX file format").

    Returns
    -------
    array of uint8
        Of the shape the header gives.

    Raises
    ------
    ValueError
        When it isn't such a file or its length contradicts its header.
    """
    try:
        body = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: must be a gzip file: {error}") from error
    if len(body) < 4 or body[:3] != b"\x00\x00\x08" or len(body) < 4 + 4 * body[3]:
        raise ValueError(f"{name}: must begin with the idx header of unsigned bytes, not {body[:4].hex()}")
    shape = tuple(int.from_bytes(body[4 + 4 * n : 8 + 4 * n], "big") for n in range(body[3]))
    pixels = np.frombuffer(body, dtype=np.uint8, offset=4 + 4 * body[3])
    if pixels.size != math.prod(shape):
        raise ValueError(f"{name}: must hold {shape} bytes as its header says, not {pixels.size}")
    return pixels.reshape(shape)


def cifar10_batch(data: bytes, name: str = "CIFAR-10 batch") -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one batch file, read at fixed offsets: the file is a pickle, which is never executed.

    Each of the files is one dictionary in pickle protocol 2, whose opcodes are documented in Python's ``pickletools``.
    The labels are a list, appended in runs of 1000: MARK, a BININT1 (``K``, a byte) a label, APPENDS. The pixels are
    one BINSTRING (``T``, a 4-byte length): 10,000 images of 3 planes of 32 rows of 32.

    Returns
    -------
    images : array of uint8, (10000, 32, 32, 3)
    labels : array of int64, (10000,)

    Raises
    ------
    ValueError
        When any opcode isn't where this layout has it.
    """
    key = b"U\x06labelsq\x04]q\x05"
    start = data.find(key) + len(key)
    body = np.frombuffer(data[start : start + _RUNS * (2 * _RUN + 2)], dtype=np.uint8)
    if start < len(key) or body.size != _RUNS * (2 * _RUN + 2):
        raise ValueError(f"{name}: must hold a list of {_BATCH} labels")
    runs = body.reshape(_RUNS, 2 * _RUN + 2)
    if (runs[:, 0] != ord("(")).any() or (runs[:, 1:-1:2] != ord("K")).any() or (runs[:, -1] != ord("e")).any():
        raise ValueError(f"{name}: must hold a list of {_BATCH} one-byte labels")
    labels = runs[:, 2:-1:2].reshape(_BATCH).astype(np.int64)
    if labels.max() > 9:
        raise ValueError(f"{name}: labels must be 0..9, not {labels.max()}")
    head = b"T" + (_BATCH * _CIFAR_PIXELS).to_bytes(4, "little")
    first = data.find(head, start + body.size) + len(head)
    pixels = np.frombuffer(data[first : first + _BATCH * _CIFAR_PIXELS], dtype=np.uint8)
    if first < len(head) or pixels.size != _BATCH * _CIFAR_PIXELS:
        raise ValueError(f"{name}: must hold {_BATCH} images of {_CIFAR_PIXELS} bytes")
    return pixels.reshape(_BATCH, 3, 32, 32).transpose(0, 2, 3, 1), labels
