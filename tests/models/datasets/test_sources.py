import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest

from models.datasets import sources
from models.datasets.sources import cifar10_batch, cifar10_files, data_folder, fashion_mnist_files, idx

LABELS = np.arange(10_000) % 10


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def batch_file(labels, pixels):
    """A CIFAR-10 batch file: the opcodes of the published ones, up to the pixels."""
    runs = b"".join(
        b"(" + b"".join(b"K" + bytes([label]) for label in labels[start : start + 1000]) + b"e"
        for start in range(0, len(labels), 1000)
    )
    head = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x04nameq\x03U\x06labelsq\x04]q\x05"
    return head + runs + b"U\x04dataq\x06" + b"T" + struct.pack("<I", len(pixels)) + pixels + b"e."


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (10_000, 3, 32, 32), dtype=np.uint8)


def idx_file(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + array.tobytes())


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("OFFRAMP_DATA", raising=False)
    assert str(data_folder()) == "data"
    monkeypatch.setenv("OFFRAMP_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "other") == tmp_path / "other"


def test_idx():
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(idx(idx_file(array)), array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not gzip", "labels.gz: must be a gzip file"),
        (idx_file(np.zeros(100, np.uint8))[:-12], "labels.gz: must be a gzip file"),
        (gzip.compress(b"")[:10] + b"\xff" * 20, "labels.gz: must be a gzip file"),
        (
            gzip.compress(b"\x00\x00\x0d\x01"),
            "labels.gz: must begin with the idx header of unsigned bytes, not 00000d01",
        ),
        (gzip.compress(b"\x00\x00\x08\x03\x00"), "must begin with the idx header"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc"), r"must hold \(5,\) bytes as its header says, not 3"),
    ],
    # The time of compression is in the data: as names of tests they would differ between workers.
    ids=["not gzip", "truncated", "damaged", "other type", "short header", "short data"],
)
def test_idx_wrong(data, message):
    with pytest.raises(ValueError, match=message):
        idx(data, "labels.gz")


def test_cifar10_batch(pixels):
    images, labels = cifar10_batch(batch_file(LABELS, pixels.tobytes()))
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(images, pixels.transpose(0, 2, 3, 1))


def test_cifar10_batch_wrong(pixels):
    good = batch_file(LABELS, pixels.tobytes())
    with pytest.raises(ValueError, match="b1: must hold a list of 10000 labels"):
        cifar10_batch(b"anything", "b1")
    with pytest.raises(ValueError, match="b1: must hold a list of 10000 labels"):
        cifar10_batch(good[:300], "b1")
    with pytest.raises(ValueError, match="b1: must hold a list of 10000 one-byte labels"):
        cifar10_batch(good.replace(b"K\x05K\x06", b"M\x05K\x06", 1), "b1")
    with pytest.raises(ValueError, match=r"b1: labels must be 0..9, not 77"):
        cifar10_batch(good.replace(b"K\x05K\x06", b"K\x4dK\x06", 1), "b1")
    with pytest.raises(ValueError, match="b1: must hold 10000 images of 3072 bytes"):
        cifar10_batch(good[:-1000], "b1")


def test_wrong_checksum_is_refused(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name in sources.FASHION_MNIST_FILES:
        (folder / name).write_bytes(b"altered")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: MD5 must be 8d4fb7e6c68d591d4c3dfef9ec88bf0d"):
        fashion_mnist_files(tmp_path)


def test_missing_files_are_fetched_and_checked(monkeypatch, tmp_path):
    server, home = tmp_path / "server", tmp_path / "home"
    server.mkdir()
    contents = {name: f"contents of {name}".encode() for name in sources.FASHION_MNIST_FILES}
    for name, data in contents.items():
        (server / name).write_bytes(data)
    monkeypatch.setattr(sources, "_FASHION_MNIST_URL", server.as_uri() + "/")
    monkeypatch.setattr(sources, "FASHION_MNIST_FILES", {name: md5(data) for name, data in contents.items()})
    seen = []
    assert fashion_mnist_files(home, lambda *report: seen.append(report)) == contents
    assert seen[0] == (len(contents["train-images-idx3-ubyte.gz"]),) * 2 + ("download train-images-idx3-ubyte.gz",)
    (server / "train-images-idx3-ubyte.gz").write_bytes(b"altered on its way")
    assert fashion_mnist_files(home) == contents  # nothing is fetched twice

    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: MD5 of the download must be"):
        fashion_mnist_files(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_no_internet_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "_CIFAR10_URL", (tmp_path / "absent.tar.gz").as_uri())
    with pytest.raises(ConnectionError, match=r"absent.tar.gz cannot be fetched .* set OFFRAMP_DATA to it"):
        cifar10_files(tmp_path)


def test_cifar10_archive(monkeypatch, tmp_path):
    contents = {name: f"contents of {name}".encode() for name in sources.CIFAR10_FILES}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as members:
        for name, data in contents.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            members.addfile(entry, io.BytesIO(data))
    (tmp_path / "cifar.tar.gz").write_bytes(archive.getvalue())
    monkeypatch.setattr(sources, "_CIFAR10_URL", (tmp_path / "cifar.tar.gz").as_uri())
    monkeypatch.setattr(sources, "_CIFAR10_MD5", md5(archive.getvalue()))
    monkeypatch.setattr(sources, "CIFAR10_FILES", {name: md5(data) for name, data in contents.items()})
    assert cifar10_files(tmp_path / "home") == contents
