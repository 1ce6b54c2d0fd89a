"""An operator that stands in a graph for one that was refused: it gives zeros, and whoever lowers it says the reason.

So the rest of a file is looked at as if the operator were there, and one message has all reasons.
"""

from collections.abc import Sequence

import torch

__all__ = ["OPERATOR", "refused"]


@torch.library.custom_op("offramp::refused", mutates_args=())
def refused(x: torch.Tensor, sizes: Sequence[int], reason: str) -> torch.Tensor:
    """Zeros of these sizes, one row for each of ``x``; ``reason`` is why the operator was refused."""
    return x.new_zeros((len(x), *sizes), dtype=torch.float32)


#: What an exported graph calls it.
OPERATOR = torch.ops.offramp.refused.default


@refused.register_fake
def _(x: torch.Tensor, sizes: Sequence[int], reason: str) -> torch.Tensor:
    return x.new_empty((len(x), *sizes), dtype=torch.float32)
