import numpy as np
import pytest

from models.datasets.splits import NAMES, SHAPES, Split, load


def rows(split):
    return {image.tobytes() + bytes([label]) for image, label in zip(split.images, split.labels, strict=True)}


def test_digits(digits):
    assert digits.shape == (8, 8, 1)
    assert digits.classes == tuple("0123456789")
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1079, 359, 359]
    for split in (digits.train, digits.validation, digits.test):
        assert split.images.shape == (len(split), 8, 8, 1)
        assert split.images.dtype == np.float32
        assert split.images.min() == 0.0
        assert split.images.max() == 1.0
        np.testing.assert_array_equal(split.images * 16, np.round(split.images * 16))
    counts = np.bincount(digits.validation.labels)
    assert counts.max() - counts.min() <= 2
    assert len(rows(digits.train) | rows(digits.validation) | rows(digits.test)) == 1797  # no image is in two splits


def test_split_follows_the_seed(digits):
    again, other = load("digits"), load("digits", seed=1)
    np.testing.assert_array_equal(digits.test.images, again.test.images)
    np.testing.assert_array_equal(digits.train.labels, again.train.labels)
    assert rows(digits.test) != rows(other.test)


def test_a_few_images_are_the_first_of_each_split(digits):
    few = digits.take(train=20, validation=10, test=9999)
    assert (few.name, few.classes, few.shape) == (digits.name, digits.classes, digits.shape)
    for split, whole, count in (
        (few.train, digits.train, 20),
        (few.validation, digits.validation, 10),
        (few.test, digits.test, 359),
    ):
        np.testing.assert_array_equal(split.images, whole.images[:count])
        np.testing.assert_array_equal(split.labels, whole.labels[:count])


def test_unknown_name():
    with pytest.raises(ValueError, match="data must be one of digits, fashion-mnist, cifar10, not 'mnist'"):
        load("mnist")
    assert NAMES == ("digits", "fashion-mnist", "cifar10")


def test_split_refuses_other_types():
    images, labels = np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int64)
    assert len(Split(images=images, labels=labels).take(1)) == 1
    with pytest.raises(ValueError, match="images must be a 4-dimensional float32 array, not float64"):
        Split(images=images.astype(np.float64), labels=labels)
    with pytest.raises(ValueError, match="labels must be int64, one an image, not int32"):
        Split(images=images, labels=labels.astype(np.int32))


@pytest.mark.parametrize(
    ("name", "shape", "first", "mean"),
    [
        ("fashion-mnist", (28, 28, 1), [9, 2, 1, 1, 6], [0.2868]),
        ("cifar10", (32, 32, 3), [3, 8, 8, 0, 6], [0.4942, 0.4851, 0.4504]),
    ],
)
def test_official_sets(data_root, name, shape, first, mean):
    dataset = load(name, data_root)
    assert dataset.shape == shape
    assert (dataset.shape, len(dataset.classes)) == SHAPES[name]
    assert (len(dataset.validation), len(dataset.test)) == (5000, 10_000)
    assert len(dataset.train) == {"fashion-mnist": 55_000, "cifar10": 45_000}[name]
    assert dataset.test.labels[:5].tolist() == first
    assert dataset.test.images.mean(axis=(0, 1, 2), dtype=np.float64) == pytest.approx(mean, abs=1e-4)
    assert (np.bincount(dataset.validation.labels) == 500).all()
    assert (np.bincount(dataset.train.labels) == len(dataset.train) // 10).all()
