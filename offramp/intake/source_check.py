"""A network that was read, compared with the runtime of its source before it is written."""

from typing import Any

from hw.rules import require
from models.datasets.sources import Progress
from models.frontends.runtimes import UnableError
from offramp.intake import samples
from offramp.intake.model import Model, Runtime

__all__ = ["check_source"]

#: Random images that are computed.
_IMAGES = 8


def check_source(model: Model, seed: int, progress: Progress | None = None) -> dict[str, Any]:
    """Compare a network tensor by tensor with the runtime of its source, on random images.

    Returns
    -------
    dict
        ``against`` (the runtime), ``images``, ``tensors``, ``equal``, ``differing`` (share of values, 0..1),
        ``largest`` (difference in codes); all None where nothing could be compared, and ``reason`` says why.

    Raises
    ------
    ValueError
        When a tensor differs that must be equal.
    """
    nothing = dict.fromkeys(("against", "images", "tensors", "equal", "differing", "largest"))
    if model.runtime is None:
        reason = "the runtime of its source isn't installed" if model.has_source else "the file holds no source"
        return {**nothing, "reason": reason}
    codes = samples.read(None, model.network.input.shape, count=_IMAGES, seed=seed).images
    runtime: Runtime | None = model.runtime
    reasons = list[str]()
    while runtime is not None:
        try:
            found = runtime.compare(codes, progress)
        except UnableError as error:
            reasons.append(str(error))
            runtime = runtime.otherwise
            continue
        require(
            found.equal or not runtime.exact,
            f"{model.origin}: {found.first} must be as {runtime.name} computes it, but {found.share:.2%} of the values "
            "differ: please report the file",
        )
        return {
            "against": runtime.name,
            "images": len(codes),
            "tensors": found.tensors,
            "equal": found.equal,
            "differing": found.share,
            "largest": found.largest,
            "reason": None,
        }
    return {**nothing, "reason": "; ".join(reasons)}
