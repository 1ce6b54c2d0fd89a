import numpy as np
import pytest
import torch

from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized.weights import in_one_scale, int8_parts, weight_codes


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("largest", [127, 255, -255])
def test_parts_add_up_to_the_weights(depthwise, largest):
    codes = np.random.default_rng(0).integers(-100, 100, (3, 2, 2, 1 if depthwise else 4))
    codes[1, 0, 1, 0] = largest
    parts = int8_parts(codes, depthwise=depthwise)
    assert all(part.dtype == np.int8 for part in parts)
    total = sum(part.astype(int) for part in parts)
    if len(parts) == 1:
        assert largest == 127
        np.testing.assert_array_equal(total, codes)
        return
    wide = codes * np.eye(3, dtype=int)[:, None, None, :] if depthwise else codes
    np.testing.assert_array_equal(total, wide)


def test_weights_are_codes_or_a_problem():
    def found(values, *scales):
        weight = torch.tensor(values, dtype=torch.float32).reshape(2, -1, 1, 1)
        return weight_codes(
            GraphStep(kind="conv", name="c", inputs=(), shape=(1, 1, 2), weight=weight), np.array(scales)
        )

    codes, problem = found([0.5, -1.0, 2.0, 0.0], 0.5, 1.0)
    assert (codes.reshape(-1).tolist(), problem) == ([1, -2, 2, 0], "")
    assert found([0.5, -1.0, 2.0, 0.5], 0.5, 1.0)[1].startswith("weights must be what they are dequantized to")
    assert found([256.0, 0.0, 0.0, 0.0], 1.0, 1.0)[1].endswith("not 256: quantize them as int8")
    assert found([0.0] * 4, 0.0, 1.0)[1] == "scales of weights must be positive and finite"


def test_weights_in_steps_of_one_scale():
    codes = np.random.default_rng(1).integers(-127, 128, (3, 1, 1, 50))
    for scales, parts in ([2.0, 2.0, 2.0], 1), ([1.0, 0.5, 2.0], 4), ([3.0, 1.0, 2.0], 3):
        found, scale, off = in_one_scale(codes, np.array(scales))
        assert (scale, off.any()) == (max(scales) / parts, False)
        np.testing.assert_array_equal(found * scale, codes * np.array(scales)[:, None, None, None])
    scales = np.array([1.0, 0.77, 0.31])
    found, scale, off = in_one_scale(codes, scales)
    assert scale == 0.25
    exact = codes * scales[:, None, None, None] / scale
    np.testing.assert_allclose(off, np.abs(found - exact))
    assert 0.25 < off.max() <= 0.5
