"""Data sets, split the same way every time."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from models.datasets.sources import Progress, cifar10_batch, cifar10_files, data_folder, fashion_mnist_files, idx

__all__ = ["NAMES", "SHAPES", "Dataset", "Split", "load"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with their labels.

    Parameters
    ----------
    images : array of float32, (N, height, width, channels)
        In 0..1, a whole number of 255ths except for digits, whose 17 grey levels are 16ths.
    labels : array of int64, (N,)
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != np.float32 or self.images.ndim != 4:
            raise ValueError(
                f"images must be a 4-dimensional float32 array, not {self.images.dtype} {self.images.shape}"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must be int64, one an image, not {self.labels.dtype} {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> "Split":
        """The first ``count`` images, or all when there are fewer."""
        return Split(images=self.images[:count], labels=self.labels[:count])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set: what is learnt from, what is tuned on, and what is only ever measured on.

    Parameters
    ----------
    name : str
    classes : tuple of str
    shape : tuple of 3 int
        Height, width, channels of an image.
    train, validation, test : Split
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: Split
    validation: Split
    test: Split

    def take(self, *, train: int, validation: int, test: int) -> "Dataset":
        """The first images of each split, so many, or all when there are fewer."""
        return replace(
            self, train=self.train.take(train), validation=self.validation.take(validation), test=self.test.take(test)
        )


def _stratified(labels: np.ndarray, fraction: float, rng: "np.random.Generator") -> tuple[np.ndarray, np.ndarray]:
    """Indices of a share of every class, and of the rest, both shuffled."""
    taken = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        taken.append(members[: round(fraction * members.size)])
    chosen = rng.permutation(np.concatenate(taken))
    return chosen, rng.permutation(np.setdiff1d(np.arange(labels.size), chosen))


def _split(images: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None) -> Split:
    if indices is not None:
        images, labels = images[indices], labels[indices]
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    return Split(images=np.ascontiguousarray(images), labels=labels.astype(np.int64))


def _official(
    name: str,
    classes: tuple[str, ...],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> Dataset:
    """A data set with an official test set: 5000 images of its training set are held back for validation."""
    rng = np.random.default_rng(seed)
    held, kept = _stratified(train[1], 5000 / train[1].size, rng)
    return Dataset(
        name=name,
        classes=classes,
        shape=train[0].shape[1:],
        train=_split(*train, kept),
        validation=_split(*train, held),
        test=_split(*test),
    )


def _digits(seed: int, root: str | os.PathLike[str] | None, progress: Progress | None) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[..., None]
    labels = bunch.target.astype(np.int64)
    rng = np.random.default_rng(seed)
    test, rest = _stratified(labels, 0.2, rng)
    held, kept = _stratified(labels[rest], 0.25, rng)
    return Dataset(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        shape=(8, 8, 1),
        train=_split(images, labels, rest[kept]),
        validation=_split(images, labels, rest[held]),
        test=_split(images, labels, test),
    )


def _fashion_mnist(seed: int, root: str | os.PathLike[str] | None, progress: Progress | None) -> Dataset:
    arrays = [idx(data, name) for name, data in fashion_mnist_files(data_folder(root), progress).items()]
    classes = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    train, test = (arrays[0][..., None], arrays[1]), (arrays[2][..., None], arrays[3])
    return _official("fashion-mnist", classes, train, test, seed)


def _cifar10(seed: int, root: str | os.PathLike[str] | None, progress: Progress | None) -> Dataset:
    batches = [cifar10_batch(data, name) for name, data in cifar10_files(data_folder(root), progress).items()]
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    train = (np.concatenate([batch[0] for batch in batches[:5]]), np.concatenate([batch[1] for batch in batches[:5]]))
    return _official("cifar10", classes, train, batches[5], seed)


_LOADERS: dict[str, Callable[[int, str | os.PathLike[str] | None, Progress | None], Dataset]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar10,
}
#: Data sets by name.
NAMES = tuple(_LOADERS)
#: By name, height, width and channels of its images, and the number of classes.
SHAPES = {"digits": ((8, 8, 1), 10), "fashion-mnist": ((28, 28, 1), 10), "cifar10": ((32, 32, 3), 10)}


def load(
    name: str, root: str | os.PathLike[str] | None = None, seed: int = 0, progress: Progress | None = None
) -> Dataset:
    """A data set by name: ``digits`` needs no file, the others lie in a folder or are fetched into it.

    Parameters
    ----------
    root : path or None
        The data folder; None means the environment's ``OFFRAMP_DATA``, else ``data`` in the current folder.
    seed : int
        Of the split: validation (and for digits test) images, drawn class by class.
    progress : function or None
        Called with bytes done, bytes in all and a text while a file is fetched.

    Raises
    ------
    ValueError
        When there is no such data set or a file's checksum is wrong.
    ConnectionError
        When a file is missing and can't be fetched.
    """
    if name not in _LOADERS:
        raise ValueError(f"data must be one of {', '.join(NAMES)}, not {name!r}")
    return _LOADERS[name](seed, root, progress)
