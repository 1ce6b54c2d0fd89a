"""Functional programs: what :mod:`torch.export` makes of a module, with the usual operators, and the images they take.

In a functional program nothing is written in place, and no map has two names: what aliases and in-place operators do is
followed exactly. Weights that a hook or a parametrization computes when the module is called are computed in it, too,
from the parameters as they are now.
"""

import io
import warnings
from contextlib import redirect_stderr

import torch
from torch import fx, nn
from torch.export.graph_signature import OutputKind

from hw.rules import check_image, first_line
from models.frontends.pytorch.calls import line_of, location_of

__all__ = ["functional", "functional_program", "image_taken", "images_taken"]

_MOST_IMAGES = 4096  # that a program takes at once

_ATEN = torch.ops.aten
#: Operators that are others by another name, or several of them: programs have those instead.
_COMPOSED = {
    _ATEN.clip.default, _ATEN.clip.Tensor, _ATEN.concat.default, _ATEN.concatenate.default, _ATEN.divide.Tensor,
    _ATEN.fliplr.default, _ATEN.flipud.default, _ATEN.hstack.default, _ATEN.moveaxis.int, _ATEN.moveaxis.intlist,
    _ATEN.multiply.Tensor, _ATEN.negative.default, _ATEN.subtract.Tensor, _ATEN.swapdims.default,
    _ATEN.true_divide.Tensor, _ATEN.unflatten.int,
}  # fmt: skip


def functional_program(model: nn.Module, images: torch.Tensor, changed: list[str]) -> torch.export.ExportedProgram:
    """A module's functional program.

    Parameters
    ----------
    images : tensor
        What it is called with.
    changed : list of str
        What of that which the module holds a call has changed, which is refused.

    Raises
    ------
    ValueError
        When the program can't be made, or a call changes what the module holds.
    """
    refusal = f"{type(model).__name__}: a network must not change {{}} when it is called"
    try:
        # Where it fails, it prints the graph so far on standard error.
        with redirect_stderr(io.StringIO()):
            program = _plain(torch.export.export(model, (images,)))
    except Exception as error:  # PyTorch's have no common type, and the network's own code runs in here.
        if changed:
            raise ValueError(refusal.format(", ".join(changed))) from error
        raise ValueError(
            f"{location_of(model, error)}: the forward pass can't be exported: {first_line(error)}"
        ) from error
    written = _written(program) or changed  # not all that changes is in the graph, but what is has its line
    if written:
        raise ValueError(refusal.format(", ".join(written)))
    return program


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """A program without operators that write in place, and without other names of operators.

    Raises
    ------
    ValueError
        When the program changes what it holds, or its image.
    """
    program = _plain(program)
    written = _written(program)
    if written:
        raise ValueError(f"a network must not change {', '.join(written)} when it is called")
    return program


def image_taken(program: torch.export.ExportedProgram) -> torch.Tensor:
    """What stands for the images of a program.

    Raises
    ------
    ValueError
        When it takes anything but one tensor of 2 to 4 dimensions.
    """
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.name in names]
    if len(values) != 1 or not isinstance(values[0], torch.Tensor) or values[0].ndim not in (2, 3, 4):
        raise ValueError("a network must take one tensor of 2 to 4 dimensions, the first of which counts images")
    return values[0]


def images_taken(program: torch.export.ExportedProgram) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """Shape of the images that a program takes, of any number one; height, width and channels of an image.

    Raises
    ------
    ValueError
        As :func:`image_taken`, and when sizes of an image aren't fixed, or too large.
    """
    count, *sizes = image_taken(program).shape
    if not all(isinstance(size, int) for size in sizes):
        raise ValueError(f"an image's sizes must be fixed, not {tuple(map(str, sizes))}")
    if 0 in sizes or (isinstance(count, int) and count == 0):
        raise ValueError(f"a network must take images that have values, one or more, not {(count, *sizes)}")
    channels, height, width = (*sizes, 1, 1)[:3] if len(sizes) != 2 else (sizes[0], 1, sizes[1])
    check_image((height, width, channels))
    if isinstance(count, int) and count > _MOST_IMAGES:
        raise ValueError(f"a network must take at most {_MOST_IMAGES} images at once, not {count}")
    return (count if isinstance(count, int) else 1, *sizes), (height, width, channels)


def _plain(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """A program without operators that write in place, and with the usual ones in the place of composed ones."""
    composed = {node.target for node in program.graph.nodes if node.target in _COMPOSED}
    # Others are functional as they are, and making them so takes twice the time again.
    if not composed and not any(map(_writes, program.graph.nodes)):
        return program
    known = torch.export.default_decompositions() if composed else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of what it does itself
        return program.run_decompositions({target: known[target] for target in composed if target in known})


def _writes(node: fx.Node) -> bool:
    """Whether an operator changes one of its operands."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _written(program: torch.export.ExportedProgram) -> list[str]:
    """What a call changes, and where: parameters, buffers, the image."""
    nodes = {node.name: node for node in program.graph.nodes}
    found = []
    for each in program.graph_signature.output_specs:
        if each.kind != OutputKind.USER_OUTPUT:
            line = line_of(nodes[each.arg.name])
            what = "the image" if each.kind == OutputKind.USER_INPUT_MUTATION else str(each.target)
            found.append(f"{what} ({line})" if line else what)
    return found
