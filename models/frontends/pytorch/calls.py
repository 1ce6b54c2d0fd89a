"""A module is called, and nothing of it changes; what goes wrong in it is told by module and line."""

import logging
import re
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from hw.rules import first_line
from models.frontends.pytorch.held import kept
from models.frontends.pytorch.misfits import misfits

__all__ = [
    "answers_of",
    "computes",
    "images_for",
    "layout_of",
    "line_of",
    "location_of",
    "outputs_in",
    "undisturbed",
]

_SEED = 20  # of the sample images

#: Where no code of the network's own lies.
_OTHERS = (Path(torch.__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2] / "compression")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, exact types and no gradients inside; afterwards everything is as before."""
    device = next((value.device.type for value in model.parameters()), "cpu")
    device = device if torch.amp.is_autocast_available(device) else "cpu"
    modes = [(module, module.training) for module in model.modules()]
    noise = logging.getLogger("torch.fx.experimental.symbolic_shapes")  # dumps graphs beside its exceptions
    quiet = noise.disabled
    try:
        noise.disabled = True
        for module, _ in modes:
            module.training = False
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device, enabled=False),
            torch.random.fork_rng(devices=[]),
            torch.compiler.set_stance("force_eager"),  # nothing is compiled for a few calls
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # export's, of what it does itself and of hooks that set weights
            yield
    finally:
        noise.disabled = quiet
        for module, training in modes:
            module.training = training


def layout_of(model: nn.Module, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Sizes of an image as a module takes it: channels, height and width; of one row it may be channels and columns, of
    one position the channels alone. Of those that give the same answers it is the first.

    Raises
    ------
    ValueError
        When it can't compute any of these, or gives other answers for one than for another.
    """
    height, width, channels = shape
    layouts = [(channels, height, width), (channels, width), (channels,)][: 1 + (height == 1) + (height == width == 1)]
    if len(layouts) == 1:
        return layouts[0]
    errors, found = [], dict[tuple[int, ...], list[torch.Tensor]]()
    for layout in layouts:
        try:
            found[layout] = _answers(model, shape, layout)
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    first, *others = found
    for other in others:
        # A module whose answers are never the same is refused as that, when it is exported.
        if not _alike(found[first], found[other]) and _alike(found[first], _answers(model, shape, first)):
            raise ValueError(
                f"{type(model).__name__}: images of one row must be computed in one layout, or alike in all, not "
                f"otherwise as (N, {', '.join(map(str, first))}) than as (N, {', '.join(map(str, other))}): save the "
                "program of torch.export.export, which says what it takes"
            )
    return first


def _answers(model: nn.Module, shape: tuple[int, int, int], layout: tuple[int, ...]) -> list[torch.Tensor]:
    """What a module returns for images of a layout, two and then three.

    Of one number of images alone, a module of maps may take them for the channels of a single image.
    """
    with kept(model):
        return [answer for count in (2, 3) for answer in answers_of(model, shape, _noise(model, layout, count))]


def _alike(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    """Whether answers have the same values for each image, but for noise."""
    return len(some) == len(others) and all(
        one.shape[:1] == other.shape[:1]
        and one.numel() == other.numel()
        and torch.allclose(one.double().flatten(), other.double().flatten(), rtol=1e-4, atol=1e-6, equal_nan=True)
        for one, other in zip(some, others, strict=True)
    )


def computes(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether a module can compute images of a shape (height, width, channels)."""
    try:
        with undisturbed(model), kept(model):
            answers_of(model, shape, images_for(model, shape, 2))
    except ValueError:
        return False
    return True


def images_for(model: nn.Module, shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Images of noise in a module's layout, of its type and on its device."""
    _check_values(model)
    return _noise(model, layout_of(model, shape), count)


def _noise(model: nn.Module, layout: tuple[int, ...], count: int) -> torch.Tensor:
    first = next((value for value in model.parameters() if value.is_floating_point()), None)
    random = torch.Generator("cpu").manual_seed(_SEED)
    images = torch.rand(count, *layout, generator=random, dtype=torch.float32, device="cpu")
    return images if first is None else images.to(first.device, first.dtype)


def _check_values(model: nn.Module) -> None:
    """Refuse parameters and buffers that are without values so far."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(value) or value.is_meta:
            raise ValueError(f"{name}: parameters and buffers must have values, not be lazy or on device meta")
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            kind = "quantized" if value.is_quantized else f"{value.dtype}, {value.layout}".replace("torch.", "")
            raise ValueError(f"{name}: parameters and buffers must be dense and real, not {kind}")


def answers_of(model: nn.Module, shape: tuple[int, int, int], images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What the module returns."""
    try:
        found = model(images.clone())
    except Exception as error:  # The network's own code may raise anything.
        frames = list(traceback.walk_tb(error.__traceback__))
        first, *more = misfits(model, images) or [(frames, error)]
        reasons = [f"{_location(model, first[0])}: can't compute images of shape {shape}: {first_line(first[1])}"]
        reasons += [f"{_location(model, others)}: {first_line(other)}" for others, other in more]
        raise ValueError("; ".join(reasons)) from error
    answers = outputs_in(found)
    if not all(isinstance(answer, torch.Tensor) for answer in answers):
        raise ValueError(
            f"{type(model).__name__}: a network must return logits, or several in tuples, lists or dictionaries, "
            f"not {_kind(found)}"
        )
    if not answers:
        raise ValueError(f"{type(model).__name__}: a network must return the logits of at least 1 exit, not of 0")
    return answers


def outputs_in(found: Any) -> tuple[Any, ...]:
    """All that a network returns in tuples, lists and dictionaries, in their order, as an exported program has it."""
    return tuple(tree_leaves(found))


def _kind(value: Any) -> str:
    """The type of what a network returns, and the types of what is in it."""
    inner = [type(each).__name__ for each in outputs_in(value) if each is not value]
    return type(value).__name__ + (f" of {', '.join(inner)}" if inner else "")


def location_of(model: nn.Module, error: Exception) -> str:
    """Name of the innermost module whose code raised an exception, or the network's type; and the line of that code."""
    return _location(model, list(traceback.walk_tb(error.__traceback__)))


def _location(model: nn.Module, frames: list[tuple[Any, int]]) -> str:
    """The same of frames, the outermost first, and the numbers of their lines."""
    names = {id(module): name for name, module in model.named_modules()}
    owners = [frame.f_locals.get("self") for frame, _ in frames]
    inner = [names[id(owner)] for owner in owners if id(owner) in names]
    own = _own((frame.f_code.co_filename, number) for frame, number in frames)
    return ((inner[-1] if inner else "") or type(model).__name__) + (f" ({own})" if own else "")


def line_of(node: fx.Node) -> str:
    """The innermost line outside PyTorch that a node comes from, as ``net.py:12``; empty where none is known."""
    return _own(re.findall(r'File "(.*)", line (\d+)', node.meta.get("stack_trace") or ""))


def _own(lines: Iterable[tuple[str, int | str]]) -> str:
    """The last of lines that is neither PyTorch's nor ours, as ``net.py:12``; empty without one."""
    own = [
        f"{Path(file).name}:{number}"
        for file, number in lines
        if not any(map(Path(file).is_relative_to, _OTHERS)) and not file.startswith("<")
    ]
    return own[-1] if own else ""
