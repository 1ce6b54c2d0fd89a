"""A module made of an ONNX file is bounded before anything is computed, and compared with the reference implementation.

Every node is computed from what the reference computes before it, so that no difference grows on its way and none
flips a code that another depends on.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from hw.rules import first_line
from models.frontends.onnx.file import OnnxGraph, OnnxInput
from models.frontends.onnx.layers import Between, Quantize
from models.frontends.onnx.layout import inverse
from models.frontends.onnx.module import OnnxModule, OnnxStep
from models.frontends.onnx.reference import feed, reference
from models.frontends.onnx.sites import RefusalError
from models.frontends.onnx.stand_in import StandIn

__all__ = ["bounded", "compare", "refusals"]

_ELEMENTS = 1 << 27  # of all maps of one run together
_COLUMNS = 1 << 26  # of what the reference implementation makes of a convolution's windows
_PRODUCTS = 1 << 35  # of one run
_SEED = 19  # of the samples
_RUNS = 2  # runs of few images; large networks get one
_FEW = 1 << 31  # products of a run, at most so many for another
#: Of the largest sum of magnitudes in a tensor: what another order of additions may change; times as many roundings
#: of the file's own floats.
_NOISE, _ROUNDINGS = 1e-4, 32
#: Of a step, how near to the middle between two codes values are that noise rounds either way.
_TIE = 1e-2
_REASONS = 32  # that are looked for, at most


def bounded(module: OnnxModule, batch: int) -> int:
    """How many products a run takes; nothing is computed, sizes alone are followed.

    Raises
    ------
    ValueError
        When sizes don't fit each other, an output isn't a row for each image, or a run would take too much.
    """
    height, width, channels = module.program.shape
    left, products, at = [_ELEMENTS], [0], [("", "")]

    def take(count: int, most: int) -> None:
        if count > most:
            raise ValueError(f"windows must take at most {most} elements, not {count}")

    def observe(step: OnnxStep, result: Any) -> Any:
        at[0] = f"{step.node}: ", ""
        left[0] -= result.numel() if isinstance(result, torch.Tensor) else result.size
        if left[0] < 0:
            raise ValueError(f"maps must have at most {_ELEMENTS} elements together, not more")
        return result

    def entered(child: nn.Module, _inputs: Any) -> None:
        at[0] = f"{steps[child].node}: ", steps[child].child or ""

    def left_behind(child: nn.Module, inputs: Any, result: Any) -> None:
        weight = getattr(child, "weight", None)
        codes = getattr(weight, "codes", weight)
        if isinstance(codes, torch.Tensor) and codes.ndim > 1:
            products[0] += result.numel() * (codes.numel() // len(codes))
        window = getattr(child, "window", None)
        if window is not None:
            over = inputs[0].shape[:2].numel()
            stretched = math.prod((n - 1) * by + 1 for n, by in zip(window.kernel, window.dilation, strict=True))
            sizes = zip(inputs[0].shape[2:], window.pads_of(inputs[0].shape[2:]), strict=True)
            take(over * math.prod(size + sum(pads) for size, pads in sizes), _ELEMENTS)
            take(over * math.prod(result.shape[2:]) * math.prod(window.kernel), _COLUMNS)
            take(stretched * (codes.shape[:2].numel() if isinstance(codes, torch.Tensor) else 1), _COLUMNS)

    steps = {module.get_submodule(step.child): step for step in module.program.steps if step.child is not None}
    hooks = [child.register_forward_pre_hook(entered) for child in steps]
    hooks += [child.register_forward_hook(left_behind) for child in module.modules()]
    sizes = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    images = torch.empty((batch, channels, height, width), dtype=torch.float32, device="meta")
    try:
        with torch.no_grad():
            found = functional_call(module, sizes, (images, observe))
    except RefusalError:
        raise
    except (ValueError, RuntimeError, IndexError, TypeError, OverflowError) as error:  # PyTorch's, of sizes
        raise _StepError(f"{at[0][0]}{first_line(error)}", at[0][1]) from error
    finally:
        for hook in hooks:
            hook.remove()
    for name, output in zip(module.program.outputs, found if isinstance(found, tuple) else (found,), strict=True):
        if not isinstance(output, torch.Tensor) or output.ndim < 2 or len(output) != batch:
            raise ValueError(f"output {name!r} must have a row for each image")
    if products[0] > _PRODUCTS:
        raise ValueError(f"a run must take at most {_PRODUCTS} products, not {products[0]}")
    return products[0]


class _StepError(ValueError):
    """A step can't be computed; ``child`` is the name of its module, empty where it isn't that which can't."""

    def __init__(self, message: str, child: str) -> None:
        super().__init__(message)
        self.child = child


def refusals(module: OnnxModule, graph: OnnxGraph) -> list[str]:
    """Why nodes can't be followed: those of the module's program, and those whose sizes don't let them be.

    For these, too, something stands in the module afterwards, as far as it can.
    """
    found = list(module.program.refused)
    steps = {step.child: step for step in module.program.steps}
    while module.program.is_whole and len(found) < _REASONS:
        try:
            bounded(module, graph.input.sizes[0] or 2)
        except _StepError as error:
            step, child = steps.get(error.child), module._modules.get(error.child)
            if not isinstance(child, StandIn):
                found.append(str(error))
            if step is None or isinstance(child, StandIn | Between | Quantize):
                break
            module.add_module(error.child, StandIn(step.node, str(error), graph.opset, graph.constants))
        except ValueError as error:
            found.append(str(error))
            break
        else:
            break
    return found


def compare(module: OnnxModule, graph: OnnxGraph) -> dict[str, tuple[int, ...]]:
    """Refuse a module that computes anything else than its file, on random images.

    Returns
    -------
    dict of str to tuple of int
        Shape of each output of the file's.

    Raises
    ------
    ValueError
        When a tensor differs by more than float noise; the message names the first that does. When the reference
        implementation can't compute the file.
    """
    batch = graph.input.sizes[0] or 2
    products = bounded(module, batch)
    evaluator = reference(graph)
    rng = np.random.default_rng(_SEED)
    noise = _NOISE + _ROUNDINGS * _precision(graph)
    shapes = dict[str, tuple[int, ...]]()
    for _ in range(_RUNS if products < _FEW else 1):
        images = _images(module, graph.input, batch, rng)
        try:
            with np.errstate(all="ignore"):
                given = feed(module.program, images)
                expected = evaluator.run(None, {graph.input.name: given}, intermediate=True)
        except Exception as error:  # It raises whatever NumPy does, and more.
            said = (str(error).strip().splitlines() or [""])[0][:200]
            raise ValueError(
                f"ONNX's reference implementation must compute the file, but: {type(error).__name__}: {said}"
            ) from error
        shapes = {name: np.shape(expected[name]) for name in graph.outputs}
        comparison = _Comparison(module, expected, noise)
        every = [child for child in module.modules() if isinstance(child, Quantize)]
        hooks = [child.register_forward_hook(comparison.quantizing) for child in every]
        with torch.no_grad():
            try:
                module(torch.from_numpy(images), comparison)
            finally:
                for hook in hooks:
                    hook.remove()
    return shapes


def _precision(graph: OnnxGraph) -> float:
    """The coarsest step of the file's floats near 1."""
    import onnx

    types = {tensor.data_type for tensor in graph.model.graph.initializer}
    types.add(onnx.TensorProto.DataType.Value(graph.input.dtype))
    steps = {onnx.TensorProto.BFLOAT16: 2.0**-8, onnx.TensorProto.FLOAT16: 2.0**-11}
    return max((steps[kind] for kind in types if kind in steps), default=2.0**-24)


def _images(module: OnnxModule, source: OnnxInput, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Random images: of codes that there are, or of numbers of the input's type."""
    height, width, channels = module.program.shape
    shape = (batch, channels, height, width)
    if module.program.codes is not None:
        of = module.program.codes
        return ((rng.integers(of.low, of.high + 1, shape) - of.zero_point) * np.float32(of.scale)).astype(np.float32)
    if source.dtype in ("INT8", "UINT8"):
        return rng.integers(0, 128, shape).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float16).astype(np.float32)


class _Comparison:
    """Compares each step's result with what is expected, which goes on in its place."""

    def __init__(self, module: OnnxModule, expected: dict[str, Any], noise: float) -> None:
        self.module, self.expected, self.noise = module, expected, noise
        self.before: torch.Tensor | None = None

    def quantizing(self, quantize: nn.Module, inputs: Any, _result: Any) -> None:
        """Keep what is about to be codes, in their steps: a hook."""
        assert isinstance(quantize, Quantize)
        if not quantize.back:
            self.before = inputs[0] / quantize.of.scale

    def __call__(self, step: OnnxStep, result: Any) -> Any:
        if step.output not in self.expected:
            return result
        wanted = np.asarray(self.expected[step.output])
        if not isinstance(result, torch.Tensor):
            return result
        layouts, name = self.module.program.layouts, step.output
        if name in layouts.rows:
            return result  # what reads it is compared
        order = layouts.orders.get(name, range(result.ndim))
        found, back = result.numpy().transpose(order), inverse(order)
        if found.size != wanted.size:
            raise _difference(step, f"sizes {list(found.shape)} are not {list(wanted.shape)}")
        wanted = wanted.reshape(found.shape)
        if found.dtype.kind in "iu":
            assert self.before is not None
            _check_codes(step, found, wanted, self.before.numpy().transpose(order))
            return torch.from_numpy(wanted.astype(found.dtype).transpose(back).copy())
        wanted = wanted.astype(np.float32)
        with np.errstate(all="ignore"):
            off = np.abs(found - wanted)
            same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
            allowed = self.noise * np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
            wrong = ~same & ~(off <= allowed)
        if wrong.any():
            raise _difference(step, f"it differs by {off[wrong].max():.3g}, more than {allowed:.3g}")
        return torch.from_numpy(wanted.transpose(back).copy())


def _check_codes(step: OnnxStep, found: np.ndarray, wanted: np.ndarray, before: np.ndarray) -> None:
    """Codes may be one off where noise decides to which side a value is rounded: next to the middle between two."""
    off = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
    with np.errstate(invalid="ignore"):  # infinities are no ties
        tie = np.abs(before - np.floor(before) - 0.5) <= _TIE
    wrong = (off > 1) | ((off == 1) & ~tie)
    if wrong.any():
        raise _difference(step, f"{np.count_nonzero(wrong)} of {off.size} codes differ, by up to {off[wrong].max()}")


def _difference(step: OnnxStep, what: str) -> ValueError:
    return ValueError(
        f"{step.node}: tensor {step.output!r} must be what ONNX's reference implementation computes, but {what}; "
        "please report the file"
    )
