import numpy as np
import pytest

from models.methods.transfer import transfer


def test_shares():
    images, attacked = np.zeros((4, 1, 1, 1), np.float32), np.ones((4, 1, 1, 1), np.float32)
    labels = np.array([0, 1, 2, 3])
    found = transfer(
        lambda x: np.array([0, 1, 2, 0]) if x is images else np.array([0, 1, 0, 0]),
        lambda x: np.array([0, 0, 0, 0]),
        images,
        attacked,
        labels,
    )
    assert (found.clean, found.target, found.surrogate, found.both) == (0.75, 0.5, 0.25, 0.25)


def test_arrays_of_other_images():
    images = np.zeros((4, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match="images, attacked images and labels must belong together"):
        transfer(len, len, images, images[:2], np.zeros(4))
