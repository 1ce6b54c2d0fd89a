"""The images that a user brings for a network, as the codes that it takes, with labels where there are any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hw.network.network import Network
from hw.rules import check_image, require
from models.datasets import splits
from models.datasets.sources import Progress
from offramp.files.kinds import said_of, what_is
from offramp.intake.preprocessing import Preprocessing

__all__ = ["PICTURES", "Samples", "check", "origin_of", "parts", "read"]

#: Names of arrays in an .npz, in the order in which they are looked for.
_IMAGES = ("images", "image", "x", "X", "x_test", "data", "inputs", "input", "arr_0")
_LABELS = ("labels", "label", "y", "Y", "y_test", "targets", "target", "arr_1")
#: How files of arrays begin, by kind: a ZIP archive, and NumPy's own format.
_BEGINNINGS = {".npz": b"PK", ".npy": b"\x93NUMPY"}
#: Kinds of files that a folder of images by class may hold.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".npy")
#: What is said of floats that may be what a regression or an autoencoder should give.
_TARGETS = "; of a network that names no classes, give the images without targets: equality and cycles need none"
#: Modes of pictures (Pillow), and as what their bytes are read.
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
#: Bytes of an array in an archive, at most: a small one may hold as many zeros as it likes.
_LARGEST = 1 << 32
#: Images of a file that are learnt from: all. Fewest that can be divided.
_EVERY, _FEWEST = 1 << 40, 50
#: Fewest different codes that images with more different values must become, else their units are wrong.
_CODES = 8


#: Whether a network can compute images of a shape (height, width, channels).
Computes = Callable[[tuple[int, int, int]], bool]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images and what is known of them.

    Parameters
    ----------
    images : array, (N, height, width, channels)
        Floats, preprocessed; or int8, which are codes.
    labels : int64 array, (N,), or None
    origin : str
        Where they are from, in words.
    random : bool
        Whether they are drawn at random, and stand for nothing.
    layout : str
        In which layout they were taken, in words, where another one is possible; else empty.
    """

    images: np.ndarray
    labels: np.ndarray | None
    origin: str
    random: bool = False
    layout: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def in_units(self) -> bool:
        """Whether they are values that a float network takes: no codes."""
        return not self.random and self.images.dtype != np.int8

    def take(self, count: int) -> "Samples":
        """The first ``count``, or all when there are fewer."""
        return replace(self, images=self.images[:count], labels=None if self.labels is None else self.labels[:count])

    def check_labels(self, classes: int) -> None:
        """Refuse labels of other classes than a network of so many has.

        Raises
        ------
        ValueError
            When there are such.
        """
        if self.labels is not None and len(self.labels):
            least, most = int(self.labels.min()), int(self.labels.max())
            require(
                least >= 0 and most < classes,
                f"{self.origin}: labels must be in 0..{classes - 1}, as the network has {classes} classes, "
                f"not {least}..{most}",
            )

    def codes(self, network: Network) -> np.ndarray:
        """As the network takes them: int8, of its shape.

        Raises
        ------
        ValueError
            When shapes differ, values are out of range, or so far within it that they can't be meant so.
        """
        if self.images.dtype == np.int8:
            require(
                self.images.shape[1:] == network.input.shape,
                f"{self.origin}: codes must be of shape {network.input.shape}, as {network.name} takes them, "
                f"not {self.images.shape[1:]}",
            )
            return self.images
        from models.compression.quantize import encode

        try:
            found = encode(self.images, network)
        except ValueError as error:
            raise ValueError(f"{self.origin}: {error}{_advice(network)}") from error
        values, codes = (len(np.unique(array[:16])) for array in (self.images, found))
        if codes < _CODES <= values:
            raise ValueError(
                f"{self.origin}: {values} different values become {codes} different codes of the network's input, "
                f"whose step is {network.input.scale:g}{_advice(network)}"
            )
        return found


def _advice(network: Network) -> str:
    source = network.input
    low, high = source.scale * (-128 - source.zero_point), source.scale * (127 - source.zero_point)
    return f": it takes {low:g}..{high:g}; --scale, --mean and --deviation change the units of images"


def read(
    data: str | None,
    shape: tuple[int, int, int] | None,
    *,
    count: int,
    seed: int,
    computes: Computes | None = None,
    root: Path | None = None,
    preprocessing: Preprocessing | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Images for a network.

    Parameters
    ----------
    data : str or None
        A data set's name (its test images), an ``.npz`` or ``.npy``, or a folder of images by class; None draws
        random ones.
    shape : tuple of 3 int, or None
        Height, width and channels that the network takes; None: those that the images have, which aren't random.
    count : int
        Most images that are read.
    seed : int
        Of random ones.
    computes : function, optional
        Without a shape, the images are taken in the first layout that it is true of, channels last before first.
    root : Path or None
        Folder of the data sets.

    Raises
    ------
    ValueError
        When there is no such data, or it isn't images of this shape.
    """
    if data is None:
        require(shape, "shape must be given for random images")
        assert shape is not None
        check_image(shape)
        images = np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)
        return Samples(images=images, labels=None, origin=f"{count} random images, seed {seed}", random=True)
    if data in splits.NAMES:
        wanted = splits.SHAPES[data][0]
        require(shape in (None, wanted), f"--data {data} has images of shape {wanted}, and the network takes {shape}")
        test = splits.load(data, root, progress=progress).test.take(count)
        found = Samples(images=test.images, labels=test.labels, origin=f"{data}, test")
    elif Path(data).is_dir():
        found = _folder(Path(data), count)
    else:
        found = _file(Path(data)).take(count)
    return _fitted(found, shape, preprocessing or Preprocessing(), computes)


def check(data: str | None) -> None:
    """Refuse data that isn't there, or is of a kind that holds no images, before anything is loaded.

    Raises
    ------
    ValueError
        When it is such.
    """
    if data is None or data in splits.NAMES or Path(data).is_dir():
        return
    path = Path(data)
    must = f"--data must be one of {', '.join(splits.NAMES)}, an .npz or .npy file, or a folder of images by class"
    if path.suffix not in _BEGINNINGS:
        raise ValueError(f"{must}, not {data!r}" + (f", {said_of(path)}" if path.exists() else ""))
    found = what_is(path)
    if found != "arrays":
        raise ValueError(f"{path}: must be NumPy arrays: it is {said_of(path, found)}, whatever its name says")


def parts(
    data: str,
    shape: tuple[int, int, int] | None,
    *,
    seed: int,
    computes: Computes | None = None,
    root: Path | None = None,
    preprocessing: Preprocessing | None = None,
    progress: Progress | None = None,
) -> tuple[Samples, Samples, Samples]:
    """Labelled images to learn from, to choose by and to measure on.

    A data set has them; of other data, shuffled by the seed, 70 % are learnt from, 10 % chosen by, 20 % measured on.

    Raises
    ------
    ValueError
        As :func:`read`; and when there are no labels, or too few images.
    """
    how = preprocessing or Preprocessing()
    if data in splits.NAMES:
        whole = splits.load(data, root, progress=progress)
        found = [
            Samples(images=each.images, labels=each.labels, origin=f"{data}, {name}")
            for name, each in (("train", whole.train), ("validation", whole.validation), ("test", whole.test))
        ]
        first, second, third = (_fitted(each, shape, how) for each in found)
        return first, second, third
    every = read(
        data, shape, count=_EVERY, seed=seed, computes=computes, root=root, preprocessing=how, progress=progress
    )
    require(every.labels is not None, f"{every.origin}: images to learn from must have labels")
    assert every.labels is not None
    require(len(every) >= _FEWEST, f"{every.origin}: images to learn from must be at least {_FEWEST}, not {len(every)}")
    order = np.random.default_rng(seed).permutation(len(every))
    cuts = np.split(order, [int(0.7 * len(every)), int(0.8 * len(every))])
    first, second, third = (
        replace(every, images=every.images[cut], labels=every.labels[cut], origin=f"{every.origin}, {name}")
        for cut, name in zip(cuts, ("70 % to learn", "10 % to choose", "20 % to measure"), strict=True)
    )
    return first, second, third


def origin_of(divided: Sequence[Samples]) -> str:
    """Where images are from that were divided (:func:`parts`): their name once, then the parts."""
    names = [each.origin.rpartition(", ") for each in divided]
    return f"{names[0][0]}: {', '.join(part for _, _, part in names)}"


def _fitted(
    found: Samples, shape: tuple[int, int, int] | None, preprocessing: Preprocessing, computes: Computes | None = None
) -> Samples:
    """Images with the shape that is wanted and, but for codes, preprocessed; bytes are pixels in 0..1."""
    images = found.images
    require(images.ndim > 0 and images.size > 0, f"{found.origin}: images must be at least 1, not 0")
    if shape is None:
        require(
            images.ndim in (3, 4),
            f"{found.origin}: images must be (N, height, width[, channels]), not {images.shape}; --shape says more",
        )
        first, second, third = (*images.shape[1:], 1)[:3]
        layouts = [(first, second, third), (second, third, first)]
        if images.ndim == 3:
            layouts[1:] = [(1, first, second), (1, second, first)]
        possible = [each for each in dict.fromkeys(layouts) if computes is None or computes(each)]
        shape = possible[0] if possible else layouts[0]
        found = replace(found, layout=_layout(images.shape[1:], shape, possible[1:]))
    if images.ndim == 3 and images.shape[1:] == shape[:2] and shape[2] == 1:
        images = images[..., None]
    elif images.ndim == 4 and images.shape[1:] != shape and images.shape[1:] == (shape[2], *shape[:2]):
        images = images.transpose(0, 2, 3, 1)
    elif images.ndim == 3 and shape[0] == 1 and images.shape[1:] in (shape[1:], shape[:0:-1]):
        images = (images if images.shape[1:] == shape[1:] else images.transpose(0, 2, 1))[:, np.newaxis]
    elif images.ndim == 2 and images.shape[1] == np.prod(shape):
        images = images.reshape(-1, *shape)
    require(
        images.ndim == 4 and images.shape[1:] == shape,
        f"{found.origin}: images must be (N, {', '.join(map(str, shape))}) as the network takes them, "
        f"not {found.images.shape}",
    )
    if images.dtype == np.int8:
        require(
            preprocessing == Preprocessing(),
            f"{found.origin}: int8 images are codes already: --scale, --mean and --deviation are for others",
        )
        return replace(found, images=np.ascontiguousarray(images))
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    require(
        np.issubdtype(images.dtype, np.floating),
        f"{found.origin}: images must be floats, uint8 pixels or int8 codes, not {images.dtype}",
    )
    with np.errstate(over="ignore"):  # numbers that only wider types hold
        images = np.ascontiguousarray(preprocessing(images))
    require(bool(np.isfinite(images).all()), f"{found.origin}: images must be finite numbers, not NaN or infinite")
    return replace(found, images=images)


def _layout(given: tuple[int, ...], taken: tuple[int, int, int], others: list[tuple[int, int, int]]) -> str:
    """In which layout images are taken, where that isn't certain."""
    if others:
        known = " and ".join(map(str, others))
        return (
            f"images of shape {given} are taken as height, width, channels {taken}; the network computes {known}, too: "
            "--shape says which"
        )
    if len(given) == 3 and len(set(given)) == 1 and given[0] > 1:
        return f"images of shape {given} are taken with the channels last"
    return ""


def _file(path: Path) -> Samples:
    """An ``.npz`` with images and perhaps labels, or an ``.npy`` of images; nothing pickled."""
    check(str(path))
    try:
        with path.open("rb") as file:
            begins = file.read(max(map(len, _BEGINNINGS.values())))
        if not begins.startswith(_BEGINNINGS[path.suffix]):
            raise ValueError(f"it is no {path.suffix} file, whatever its name says")
        loaded: Any = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return Samples(images=_array(loaded, "images", path), labels=None, origin=str(path))
        with loaded:
            names = [next((name for name in known if name in loaded), None) for known in (_IMAGES, _LABELS)]
            wanted = " or ".join(_IMAGES)
            require(names[0], f"{path}: must have an array of images, called {wanted}, not {loaded.files}")
            for entry in loaded.zip.infolist():
                known = entry.filename.removesuffix(".npy") in names
                require(
                    not known or entry.file_size <= _LARGEST,
                    f"{path}: an array must be of at most {_LARGEST} bytes, not {entry.file_size}; .npy may be larger",
                )
            images = _array(loaded[names[0]], "images", path)
            labels = None if names[1] is None else _labels(_array(loaded[names[1]], "labels", path), images, path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, MemoryError) as error:
        text = "not of Python objects, or something else" if "pickle" in str(error) else str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: must be NumPy arrays: {text}") from error
    except Exception as error:  # zipfile and zlib have their own, without a common type
        raise ValueError(f"{path}: must be NumPy arrays: {error}") from error
    return Samples(images=images, labels=labels, origin=str(path))


def _array(found: Any, what: str, path: Path) -> np.ndarray:
    """What an entry of a file holds; NumPy gives the bytes of one that is no array."""
    if not isinstance(found, np.ndarray) or not found.ndim:
        kind = "a single number" if isinstance(found, np.ndarray) else "something else"
        raise ValueError(f"{path}: {what} must be an array with an entry for each image, not {kind}")
    return found


def _labels(labels: np.ndarray, images: np.ndarray, path: Path) -> np.ndarray:
    """Labels (N,) as integers; one-hot rows are taken for the class they name."""
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.shape[0] == len(images):
        is_one_hot = bool(((labels == 0) | (labels == 1)).all()) and bool((np.count_nonzero(labels, axis=1) == 1).all())
        require(is_one_hot, f"{path}: rows of labels must be one-hot, a single 1 among zeros{_TARGETS}")
        labels = labels.argmax(axis=1)
    labels = labels[:, 0] if labels.shape == (len(images), 1) else labels
    right = labels.shape == images.shape[:1] and labels.dtype.kind in "iu"
    said = f"{len(images)} integers, one an image, not {labels.dtype} {labels.shape}"
    require(right, f"{path}: labels must be {said}{_TARGETS if labels.dtype.kind == 'f' else ''}")
    most = np.iinfo(np.int64).max
    require(not len(labels) or labels.max() <= most, f"{path}: labels must be at most {most}, not {labels.max()}")
    return labels.astype(np.int64)


def _folder(path: Path, count: int) -> Samples:
    """A folder with a folder of images for each class; classes are numbered in the order of their names.

    Of each class the first ones are taken in turn, so that few images are of all classes. Hidden folders are none.
    """
    classes = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    require(classes, f"{path}: must hold a folder of images for each class, and holds no folder")
    files = [sorted(f for f in each.iterdir() if f.suffix.lower() in PICTURES) for each in classes]
    turns = range(max(map(len, files)))
    chosen = [(names[turn], label) for turn in turns for label, names in enumerate(files) if turn < len(names)][:count]
    require(chosen, f"{path}: its folders must hold images ({', '.join(PICTURES)}), and hold none")
    images = [_picture(file) for file, _ in chosen]
    shapes = {image.shape for image in images}
    require(len(shapes) == 1, f"{path}: images must be of one shape, not {sorted(shapes)}")
    types = sorted({"floats" if image.dtype.kind == "f" else str(image.dtype) for image in images})
    require(len(types) == 1, f"{path}: images must be of one type, not {' and '.join(types)}")
    labels = np.array([label for _, label in chosen], dtype=np.int64)
    return Samples(images=np.stack(images), labels=labels, origin=str(path))


def _picture(path: Path) -> np.ndarray:
    """One image: (height, width) or (height, width, channels), bytes or floats."""
    require(path.is_file(), f"{path}: must be an image's file, not a folder, a pipe or a broken link")
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        from PIL import Image

        with Image.open(path) as image:
            require(image.mode in _MODES, f"mode must be one of {', '.join(_MODES)}, not {image.mode}")
            return np.asarray(image.convert(_MODES[image.mode]))
    except Exception as error:  # Pillow's have no common type
        raise ValueError(f"{path}: must be an image: {error}") from error
