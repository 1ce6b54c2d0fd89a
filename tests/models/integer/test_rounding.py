"""Values are rounded half to even; gradients pass unchanged."""

from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.integer.rounding import round_through

#: Codes and accumulators of 24 bits, in quarters: float32 holds them exactly, and every second one is near a tie.
QUARTERS = st.integers(-(1 << 21), 1 << 21)


@given(st.lists(QUARTERS, min_size=1, max_size=50))
def test_values_are_rounded_half_to_even(quarters):
    found = round_through(torch.tensor(quarters, dtype=torch.float32) / 4)
    assert found.tolist() == [round(Fraction(n, 4)) for n in quarters]


def test_the_gradient_passes_as_if_nothing_had_been_rounded():
    values = torch.tensor([0.5, -1.2, 3.0], requires_grad=True)
    weights = torch.tensor([2.0, -3.0, 0.25])
    (weights * round_through(values) ** 2).sum().backward()
    assert values.grad.tolist() == [2.0 * 2 * 0.0, -3.0 * 2 * -1.0, 0.25 * 2 * 3.0]
