"""Which exit each image takes, and in which forms images may come."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hw.network.network import INPUT, Exit, Network
from hw.numerics import top2
from models.integer import golden
from tests.hw.networks import network as mixed_network
from tests.hw.networks import tensor
from tests.models.definition import head, images


def logits_network(*thresholds: int) -> Network:
    """Heads that deliver the image itself, one plane of channels an exit, as logits."""
    layers = []
    for number in range(len(thresholds) + 1):
        weight = np.zeros((3, 1, 1, 3 * (len(thresholds) + 1)), dtype=np.int8)
        weight[range(3), 0, 0, range(3 * number, 3 * number + 3)] = 1
        layers.append(head(INPUT, (), weight, name=f"exit{number}"))
    return Network(
        name="net",
        input=tensor(1, 1, 3 * (len(thresholds) + 1), zero_point=0),
        layers=tuple(layers),
        exits=tuple(Exit(logits=f"exit{n}", threshold=value) for n, value in enumerate((*thresholds, None))),
        classes=3,
    )


def test_the_first_exit_whose_margin_reaches_its_threshold_is_taken():
    codes = np.array(
        [
            [10, 5, 0, 0, 0, 9, 1, 2, 3],  # margin 5 reaches 5
            [10, 6, 0, 0, 0, 9, 1, 2, 3],  # 4 doesn't, 9 reaches 9
            [10, 6, 0, 0, 8, 0, 1, 2, 3],  # neither: the last
            [-9, -9, -100, 4, 4, 4, 7, 7, 1],  # ties everywhere: the last, its first class
        ],
        dtype=np.int8,
    ).reshape(4, 1, 1, 9)
    result = golden.run(logits_network(5, 9), codes)
    assert result.margins.tolist() == [[5, 9, 1], [4, 9, 1], [4, 8, 1], [0, 0, 0]]
    assert result.exit_index.tolist() == [0, 1, 2, 2]
    assert result.classes.tolist() == [0, 2, 2, 0]
    assert result.exit_share().tolist() == [0.25, 0.25, 0.5]
    assert result.accuracy([0, 2, 2, 1]) == 0.75
    # A threshold of 0 is always reached, also by a tie, whose first class counts.
    always = golden.run(logits_network(0, 9), codes)
    assert always.exit_index.tolist() == [0] * 4
    assert always.classes.tolist() == [0] * 4
    assert always.exit_share().tolist() == [1.0, 0.0, 0.0]
    never = golden.run(logits_network((1 << 32) - 1, (1 << 32) - 1), codes)
    assert never.exit_index.tolist() == [2] * 4


@given(st.integers(0, 999), st.integers(0, 40), st.integers(0, 40))
def test_decisions_equal_their_definition_image_by_image(seed, first, second):
    rng = np.random.default_rng(seed)
    logits = [rng.integers(-25, 25, (20, 4)) for _ in range(3)]
    thresholds = [first, second, None]
    margins, exit_index, classes = golden.decide(logits, thresholds)
    for image in range(20):
        tops = [top2(values[image]) for values in logits]
        taken = next(n for n, t in enumerate(thresholds) if t is None or tops[n][1] >= t)
        assert (exit_index[image], classes[image]) == (taken, tops[taken][0])
        assert margins[image].tolist() == [margin for _, margin in tops]


def test_batches_progress_and_form_of_the_images_are_of_no_influence():
    net = mixed_network()
    codes = images(11, 6, 4, 2)
    reference = golden.run(net, codes)
    frozen = codes.copy()
    frozen.flags.writeable = False
    forms = [codes, torch.from_numpy(codes), frozen, codes[::-1].copy()[::-1], np.asfortranarray(codes)]
    for form in forms:
        for batch in (1, 4, 11, 1000):
            seen: list[tuple[int, int]] = []
            result = golden.run(net, form, batch=batch, progress=lambda *step, seen=seen: seen.append(step))
            for name, array in reference.tensors.items():
                np.testing.assert_array_equal(result.tensors[name], array, strict=True)
            np.testing.assert_array_equal(result.classes, reference.classes, strict=True)
            assert seen == [(min(done, 11), 11) for done in range(batch, 11 + batch, batch)]
    np.testing.assert_array_equal(codes, images(11, 6, 4, 2))


def test_without_tensors_the_decisions_stay():
    net, codes = mixed_network(), images(30, 6, 4, 2)
    kept, lean = golden.run(net, codes), golden.run(net, codes, keep=False)
    assert lean.tensors == {}
    for field in ("margins", "exit_index", "classes"):
        np.testing.assert_array_equal(getattr(lean, field), getattr(kept, field), strict=True)
    for one, other in zip(lean.logits, kept.logits, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
        assert one.dtype == np.int64


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (np.zeros((2, 6, 4, 2), np.uint8), "not uint8 of shape (2, 6, 4, 2)"),
        (np.zeros((2, 6, 4, 2), np.float32), "not float32 of shape (2, 6, 4, 2)"),
        (torch.zeros((2, 6, 4, 2)), "not float32 of shape (2, 6, 4, 2)"),
        (torch.zeros((2, 2, 6, 4), dtype=torch.int8), "not int8 of shape (2, 2, 6, 4)"),
        (np.zeros((6, 4, 2), np.int8), "not int8 of shape (6, 4, 2)"),
        (np.zeros((6, 4, 2, 1, 1), np.int8), "not int8 of shape (6, 4, 2, 1, 1)"),
        (np.array(3, np.int8), "not int8 of shape ()"),
    ],
)
def test_other_images_are_refused(codes, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        golden.run(mixed_network(), codes)
    assert str(caught.value) == f"net: images must be int8 of shape (N, 6, 4, 2), {expected}"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (torch.zeros((2, 6, 4, 2), dtype=torch.int8, device="meta"), "a Tensor on meta of layout torch.strided"),
        (torch.zeros((2, 6, 4, 2), dtype=torch.int8).to_sparse(), "a Tensor on cpu of layout torch.sparse_coo"),
    ],
)
def test_tensors_without_values_are_refused(codes, expected):
    with pytest.raises(ValueError, match=f"^net: images must be a dense tensor that holds its values, not {expected}$"):
        golden.run(mixed_network(), codes)


def test_other_arguments_are_refused():
    with pytest.raises(ValueError, match=r"^images must be a numpy array or a torch tensor, not list$"):
        golden.run(mixed_network(), [[1]])
    with pytest.raises(ValueError, match=r"^batch must be at least 1, not 0$"):
        golden.run(mixed_network(), images(1, 6, 4, 2), batch=0)


def test_no_image_at_all():
    result = golden.run(mixed_network(), images(0, 6, 4, 2))
    assert result.tensors["sum"].shape == (0, 3, 4, 4)
    assert (result.classes.shape, result.margins.shape) == ((0,), (0, 2))
    with pytest.raises(ValueError, match=r"^accuracy needs at least 1 image, not 0$"):
        result.accuracy([])
    with pytest.raises(ValueError, match=r"^exit share needs at least 1 image, not 0$"):
        result.exit_share()


def test_labels_of_another_number_are_refused():
    result = golden.run(mixed_network(), images(3, 6, 4, 2))
    with pytest.raises(ValueError, match=r"^labels must be one per image, shape \(3,\), not \(2,\)$"):
        result.accuracy([1, 2])
