import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from hw.network.network import Network
from models.datasets import splits
from offramp.intake import samples
from offramp.intake.preprocessing import Preprocessing
from offramp.intake.samples import origin_of, parts, read
from tests.random_networks import random_network


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(1)


def arrays(folder, **values):
    np.savez(folder / "data.npz", **values)
    return str(folder / "data.npz")


def test_random_images_are_said_to_be_such_and_follow_from_the_seed(network):
    shape = network.input.shape
    first, again, other = (read(None, shape, count=3, seed=seed) for seed in (4, 4, 5))
    assert first.random
    assert (first.origin, first.labels) == ("3 random images, seed 4", None)
    np.testing.assert_array_equal(first.codes(network), again.images)
    assert (first.images != other.images).any()


def test_a_data_set_is_known_by_name():
    found = read("digits", (8, 8, 1), count=7, seed=0)
    assert (len(found), found.origin, found.labels.shape) == (7, "digits, test", (7,))
    with pytest.raises(ValueError, match=r"--data digits has images of shape \(8, 8, 1\), and the network takes \(9,"):
        read("digits", (9, 8, 1), count=7, seed=0)


@pytest.mark.parametrize(("names"), [("X", "y"), ("images", "labels"), ("arr_0", "arr_1")])
@pytest.mark.parametrize("kind", ["codes", "pixels", "floats", "channels first", "flat", "without channels"])
def test_arrays_of_usual_names_types_and_layouts(tmp_path, names, kind):
    codes = np.random.default_rng(0).integers(-128, 128, (5, 4, 6, 1)).astype(np.int8)
    pixels = (codes.astype(np.int16) + 128).astype(np.uint8)
    images = {
        "codes": codes,
        "pixels": pixels,
        "floats": pixels / 255,
        "channels first": pixels.transpose(0, 3, 1, 2),
        "flat": pixels.reshape(5, -1),
        "without channels": pixels[..., 0],
    }[kind]
    labels = np.array([0, 2, 1, 1, 0])
    given = labels if kind == "codes" else np.eye(3, dtype=int)[labels] if kind == "flat" else labels[:, None]
    found = read(arrays(tmp_path, **dict(zip(names, (images, given), strict=True))), (4, 6, 1), count=4, seed=0)
    assert found.labels.tolist() == [0, 2, 1, 1]
    expected = codes[:4] if kind == "codes" else pixels[:4] / np.float32(255)
    np.testing.assert_allclose(found.images, expected, atol=1e-7)


def test_images_are_preprocessed_by_channel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    how = Preprocessing(scale=255.0, mean=(100.0, 110.0, 120.0), deviation=(50.0,))
    found = read(str(tmp_path / "x.npy"), (2, 2, 3), count=9, seed=0, preprocessing=how)
    np.testing.assert_allclose(found.images, (pixels - np.array([100.0, 110.0, 120.0])) / 50, atol=1e-4)
    with pytest.raises(ValueError, match="mean must have 1 or 3 values, as channels, not 2"):
        read(str(tmp_path / "x.npy"), (2, 2, 3), count=9, seed=0, preprocessing=Preprocessing(mean=(1.0, 2.0)))


def test_rows_have_their_channels_first_or_last(tmp_path):
    rows = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    for name, values in (("last", rows), ("first", rows.transpose(0, 2, 1))):
        np.save(tmp_path / f"{name}.npy", values)
        found = read(str(tmp_path / f"{name}.npy"), (1, 4, 3), count=9, seed=0)
        np.testing.assert_array_equal(found.images[:, 0], rows)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((5, 4, 6, 3), (4, 6, 3)),
        ((5, 3, 4, 6), (4, 6, 3)),
        ((5, 4, 6), (4, 6, 1)),
        ((5, 4, 6), (1, 4, 6)),
        ((5, 6, 4), (1, 4, 6)),
    ],
)
def test_without_a_shape_the_layout_is_one_that_can_be_computed(tmp_path, given, shape):
    values = np.random.default_rng(0).random(given, dtype=np.float32)
    path = arrays(tmp_path, x=values, y=np.arange(5) % 3)
    found = read(path, None, count=9, seed=0, computes=lambda tried: tried == shape)
    np.testing.assert_array_equal(found.images, read(path, shape, count=9, seed=0).images)
    plain = read(path, None, count=9, seed=0, computes=lambda _: False)
    assert plain.images.shape[1:] == (*given[1:], 1)[:3]


@pytest.mark.parametrize(
    ("given", "taken", "others"),
    [
        ((5, 4, 6, 3), (4, 6, 3), "(6, 3, 4)"),
        ((5, 4, 6), (4, 6, 1), "(1, 4, 6) and (1, 6, 4)"),
        ((5, 4, 4), (4, 4, 1), "(1, 4, 4)"),
    ],
)
def test_where_several_layouts_can_be_computed_it_is_said_which_is_taken(tmp_path, given, taken, others):
    """As by a network that begins with Flatten."""
    path = arrays(tmp_path, x=np.random.default_rng(0).random(given, dtype=np.float32))
    found = read(path, None, count=9, seed=0, computes=lambda tried: np.prod(tried) == np.prod(taken))
    assert found.images.shape[1:] == taken
    assert found.layout == (
        f"images of shape {given[1:]} are taken as height, width, channels {taken}; the network computes {others}, "
        "too: --shape says which"
    )
    assert read(path, None, count=9, seed=0, computes=lambda tried: tried == taken).layout == ""
    assert read(path, taken, count=9, seed=0).layout == ""


def test_of_images_as_high_as_wide_as_deep_it_is_said_that_channels_are_last(tmp_path):
    path = arrays(tmp_path, x=np.zeros((5, 3, 3, 3), np.float32))
    said = "images of shape (3, 3, 3) are taken with the channels last"
    assert read(path, None, count=9, seed=0, computes=lambda _: True).layout == said


def test_an_array_that_a_small_archive_claims_is_bounded(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1000, 4, 6, 1), np.int8), other=np.zeros(1_000_000))
    assert len(read(str(tmp_path / "x.npz"), (4, 6, 1), count=9, seed=0)) == 9
    monkeypatch.setattr(samples, "_LARGEST", 10_000)
    with pytest.raises(ValueError, match=r"x\.npz: an array must be of at most 10000 bytes, not 24128; \.npy may be"):
        read(str(tmp_path / "x.npz"), (4, 6, 1), count=9, seed=0)


def test_a_folder_of_classes_is_taken_in_turn(tmp_path):
    (tmp_path / ".thumbnails").mkdir()
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.full((4, 5, 3), 10 * label + number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    found = read(str(tmp_path), (4, 5, 3), count=5, seed=0)
    assert found.labels.tolist() == [0, 1, 0, 1, 0]
    assert (found.images[:, 0, 0, 0] * 255).round().tolist() == [0, 10, 1, 11, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"other": np.zeros(3)}, r"must have an array of images, called images or .*, not \['other'\]"),
        ({"x": np.zeros((2, 3, 3, 1))}, r"images must be \(N, 4, 6, 1\) as the network takes them, not \(2, 3, 3, 1\)"),
        ({"x": np.zeros((0, 4, 6, 1))}, "images must be at least 1, not 0"),
        ({"x": np.zeros((2, 4, 6, 1), complex)}, "images must be floats, uint8 pixels or int8 codes, not complex128"),
        ({"x": np.full((2, 4, 6, 1), np.nan)}, "images must be finite numbers"),
        (
            {"x": np.zeros((2, 4, 6, 1)), "y": np.zeros(3, int)},
            r"labels must be 2 integers, one an image, not int64 \(3,",
        ),
        (
            {"x": np.zeros((2, 4, 6, 1)), "y": np.zeros(2)},
            r"labels must be 2 integers, one an image, not float64 \(2,\); of a network that names no classes, give",
        ),
        ({"x": np.array([{}, {}])}, "must be NumPy arrays: not of Python objects, or something else"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        read(arrays(tmp_path, **values), (4, 6, 1), count=4, seed=0)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, -1, 1, 2]])
def test_labels_of_other_classes_are_refused(tmp_path, labels):
    found = read(arrays(tmp_path, x=np.zeros((4, 4, 6, 1)), y=np.array(labels)), (4, 6, 1), count=4, seed=0)
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2, as the network has 3 classes, not -?\d\.\.\d$"):
        found.check_labels(3)


def test_damaged_and_missing_data_is_named(tmp_path):
    path = arrays(tmp_path, x=np.zeros((2, 4, 6, 1)))
    whole = (tmp_path / "data.npz").read_bytes()
    for content in (b"", whole[:40], whole[:-30], whole[:60] + b"x" * 40 + whole[100:]):
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"data\.npz: must be NumPy arrays"):
            read(path, (4, 6, 1), count=4, seed=0)
    for suffix, other, what in (
        (".npz", b"1,2,3\n", "a text file"),
        (".npy", b"1,2,3\n", "a text file"),
        (".npz", b"\x93NUMPY", r"no \.npz file"),
        (".npy", whole, r"no \.npy file"),
    ):
        (tmp_path / f"text{suffix}").write_bytes(other)
        message = rf"text\{suffix}: must be NumPy arrays: it is {what}, whatever its name says$"
        with pytest.raises(ValueError, match=message):
            read(str(tmp_path / f"text{suffix}"), (4, 6, 1), count=4, seed=0)
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ValueError, match=r"pipe\.npy: must be NumPy arrays: it is a pipe or a device, "):
        read(str(tmp_path / "pipe.npy"), (4, 6, 1), count=4, seed=0)
    (tmp_path / "note.txt").write_text("a note")
    with pytest.raises(ValueError, match=r"^--data must be one of digits, .*, not '.*note\.txt', a text file$"):
        read(str(tmp_path / "note.txt"), (4, 6, 1), count=4, seed=0)
    with pytest.raises(ValueError, match=r"gone\.npz: cannot be read: No such file"):
        read(str(tmp_path / "gone.npz"), (4, 6, 1), count=4, seed=0)
    with pytest.raises(ValueError, match=r"--data must be one of digits, .*, not 'mnist'"):
        read("mnist", (4, 6, 1), count=4, seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold a folder of images for each class, and holds no folder"):
        read(str(tmp_path / "empty"), (4, 6, 1), count=4, seed=0)
    (tmp_path / "empty" / "class").mkdir()
    (tmp_path / "empty" / "class" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png: must be an image"):
        read(str(tmp_path / "empty"), (4, 6, 1), count=4, seed=0)


def test_units_that_the_network_has_no_codes_for_are_refused(tmp_path):
    """A network that takes bytes as they are would see two codes of pixels in 0..1."""
    network = random_network(1)
    shape = network.input.shape
    description = network.to_dict()
    description["input"] |= {"scale": 1.0, "zero_point": -128}
    bytes_ = Network.from_dict(description, dict(network.arrays()))
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    with pytest.raises(
        ValueError, match=r"different values become 2 different codes .*--scale, --mean and --deviation"
    ):
        read(str(tmp_path / "x.npy"), shape, count=4, seed=0).codes(bytes_)
    found = read(str(tmp_path / "x.npy"), shape, count=4, seed=0, preprocessing=Preprocessing(scale=255.0))
    np.testing.assert_array_equal(found.codes(bytes_), pixels.astype(np.int16) - 128)
    how = Preprocessing(scale=255.0 * 255.0)
    with pytest.raises(ValueError, match=r"x\.npy: values of images must be numbers about in 0\.\.255.*: it takes 0"):
        read(str(tmp_path / "x.npy"), shape, count=4, seed=0, preprocessing=how).codes(bytes_)


def test_a_file_is_divided_by_the_seed_and_a_data_set_has_its_split(tmp_path):
    images = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    path = arrays(tmp_path, x=images, y=np.arange(100))
    found = parts(path, (2, 2, 1), seed=3)
    assert [len(each) for each in found] == [70, 10, 20]
    assert sorted(label for each in found for label in each.labels.tolist()) == list(range(100))
    assert origin_of(found) == f"{path}: 70 % to learn, 10 % to choose, 20 % to measure"
    for each in found:
        np.testing.assert_array_equal((each.images[:, 0, 0, 0] * 255).round(), each.labels)
    assert parts(path, (2, 2, 1), seed=4)[0].labels.tolist() != found[0].labels.tolist()
    digits = splits.load("digits")
    assert origin_of(parts("digits", (8, 8, 1), seed=0)) == "digits: train, validation, test"
    expected = (digits.train, digits.validation, digits.test)
    for each, split in zip(parts("digits", (8, 8, 1), seed=0), expected, strict=True):
        np.testing.assert_array_equal(each.labels, split.labels)
    with pytest.raises(ValueError, match="images to learn from must have labels"):
        parts(arrays(tmp_path, x=images), (2, 2, 1), seed=0)
    with pytest.raises(ValueError, match="images to learn from must be at least 50, not 9"):
        parts(arrays(tmp_path, x=images[:9], y=np.arange(9)), (2, 2, 1), seed=0)


def test_entries_that_are_no_arrays_of_images_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.float32(1))
    with pytest.raises(
        ValueError, match=r"data\.npz: images must be an array with an entry for each image, not a single"
    ):
        read(str(path), (4, 6, 1), count=4, seed=0)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images", b"hello")
    with pytest.raises(ValueError, match=r"data\.npz: images must be an array .*, not something else$"):
        read(str(path), (4, 6, 1), count=4, seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((3, 4), np.nan), "rows of labels must be one-hot, a single 1 among zeros; of a network that names no"),
        (np.zeros((3, 4)), "rows of labels must be one-hot"),
        (np.eye(4)[:3] + np.eye(4)[1:], "rows of labels must be one-hot"),
        (np.eye(4)[:3] * 2, "rows of labels must be one-hot"),
        (np.array([0, 1, 2], "m8[s]"), "labels must be 3 integers, one an image, not timedelta64"),
        (np.array([[[0, 1, 2]]]), r"labels must be 3 integers, one an image, not int64 \(1, 1, 3\)"),
        (np.array([0, 1, 2**63], np.uint64), "labels must be at most 9223372036854775807, not 9223372036854775808"),
    ],
)
def test_labels_that_name_no_class_of_an_image_are_refused(tmp_path, labels, message):
    path = arrays(tmp_path, images=np.zeros((3, 2, 2, 1), np.uint8), labels=labels)
    with pytest.raises(ValueError, match=rf"data\.npz: {message}"):
        read(path, None, count=9, seed=0)


def test_numbers_that_become_infinite_are_refused(tmp_path):
    path = arrays(tmp_path, images=np.full((3, 2, 2, 1), 1e300))
    with pytest.raises(ValueError, match=r"images must be finite numbers"):
        read(path, None, count=9, seed=0)


def test_a_folder_of_bytes_and_floats_is_refused(tmp_path):
    for name, kind in (("a", np.float64), ("b", np.float32), ("c", np.uint8)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / ("0.NPY" if name == "a" else "0.npy")).open("wb") as file:
            np.save(file, np.ones((2, 2), kind))
        if name == "b":
            assert read(str(tmp_path), None, count=9, seed=0).images.dtype == np.float32
    with pytest.raises(ValueError, match=r"images must be of one type, not floats and uint8$"):
        read(str(tmp_path), None, count=9, seed=0)


def test_a_pipe_among_images_is_not_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png: must be an image's file, not a folder, a pipe or a broken link$"):
        read(str(tmp_path), None, count=9, seed=0)
