"""A PyTorch module as the functional graph of operators that :mod:`torch.export` makes of it, computed on samples.

In a functional graph nothing is written in place, and no map has two names: what aliases and in-place operators do is
followed exactly. Weights that a hook or a parametrization computes when the module is called are computed in the
graph, too, from the parameters as they are now.
"""

import copy
import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import OutputKind

from hw.rules import check_image, first_line
from models.frontends.pytorch.calls import answers_of, images_for, line_of, location_of
from models.frontends.pytorch.held import attributes, differing, kept

__all__ = [
    "Exported",
    "NamedModule",
    "arguments",
    "export",
    "exported_program",
    "functional",
    "image_taken",
    "images_taken",
    "program_of",
    "recorded",
]

_SAMPLES = 3  # images; no size that a network is likely to have of itself, so that no reshape mixes images unseen

_MOST_IMAGES = 4096  # that a program takes at once

#: Of the largest answer: how far those of two calls may be apart.
_REPEATED = 1e-6

#: Modules that are one step each, as programs call them.
_STEP_MODULE = "models.frontends.quantized.step_module.StepModule"

_ATEN = torch.ops.aten
#: What gives its first argument on in evaluation mode, where shape and type stay.
_PASSING = {
    _ATEN.clone.default, _ATEN.alias.default, _ATEN.detach.default, _ATEN.contiguous.default, _ATEN.expand.default,
    _ATEN._to_copy.default, _ATEN.to.dtype, _ATEN.to.dtype_layout, _ATEN.to.device, _ATEN.to.other,
    _ATEN.dropout.default, _ATEN.feature_dropout.default, _ATEN.alpha_dropout.default,
}  # fmt: skip
#: Operators that are others by another name, or several of them: programs have those instead.
_COMPOSED = {
    _ATEN.clip.default, _ATEN.clip.Tensor, _ATEN.concat.default, _ATEN.concatenate.default, _ATEN.divide.Tensor,
    _ATEN.fliplr.default, _ATEN.flipud.default, _ATEN.hstack.default, _ATEN.moveaxis.int, _ATEN.moveaxis.intlist,
    _ATEN.multiply.Tensor, _ATEN.negative.default, _ATEN.subtract.Tensor, _ATEN.swapdims.default,
    _ATEN.true_divide.Tensor, _ATEN.unflatten.int,
}  # fmt: skip


def arguments(node: fx.Node) -> dict[str, Any]:
    """Arguments of an operator by name, defaults included."""
    assert isinstance(node.target, torch._ops.OpOverload)
    expected = node.target._schema.arguments
    given = dict(zip((argument.name for argument in expected), node.args, strict=False)) | node.kwargs
    return {argument.name: given.get(argument.name, argument.default_value) for argument in expected}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A module's operators in execution order, with what they compute.

    Attributes
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    modules : dict of str to Module
        Of the network, by name; ``""`` is the network itself.
    nodes : tuple of Node
        Operators whose results depend on the image or on chance, as far as the logits depend on them.
    image : Node
    logits : tuple of Node
        As the network returns them.
    values : dict of Node to tensor
        What each node, constants included, is for the sample images (N, channels, height, width).
    answers : tuple of tensor
        What the module itself returns for them.
    alone : function
        What it returns for the first of them alone, computed anew unless it is a program, which takes as many images
        as it was made for.
    """

    shape: tuple[int, int, int]
    modules: Mapping[str, nn.Module]
    nodes: tuple[fx.Node, ...]
    image: fx.Node
    logits: tuple[fx.Node, ...]
    values: Mapping[fx.Node, Any]
    answers: tuple[torch.Tensor, ...]
    alone: Callable[[], tuple[torch.Tensor, ...]]

    def module(self, node: fx.Node) -> tuple[str, nn.Module]:
        """The innermost module that a node is computed in: its name and itself."""
        stack = node.meta.get("nn_module_stack") or {}
        names = [name.split("@")[0] for name, _ in stack.values()]
        name = next((name for name in reversed(names) if name in self.modules), "")
        return name, self.modules[name]


def export(model: nn.Module, shape: tuple[int, int, int]) -> Exported:
    """A network's operators; it must be in evaluation mode (:func:`undisturbed`), and keeps what it holds.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.

    Raises
    ------
    ValueError
        When the network can't compute images of this shape, returns anything but logits, changes what it holds, or
        branches on what it computes; the message names the module where there is one.
    """
    images = images_for(model, shape, _SAMPLES)
    answers, changed, repeats = _called(model, shape, images)
    with kept(model):
        program = _program(model, images, changed)
        _check_repeats(model, program, repeats)
        values = recorded(program, images)

    def alone() -> tuple[torch.Tensor, ...]:
        with kept(model):
            return answers_of(model, shape, images[:1])

    (image,) = program.graph_signature.user_inputs
    modules = model.named_modules(remove_duplicate=False)
    return _pruned(program.graph, image, shape, values, answers, modules, alone)


def _called(
    model: nn.Module, shape: tuple[int, int, int], images: torch.Tensor
) -> tuple[tuple[torch.Tensor, ...], list[str], bool]:
    """What a module returns, what a call of it changes, and whether a second one returns the same.

    Of what isn't a tensor, only what the second call changes again.
    """
    with kept(model) as changed:
        answers = answers_of(model, shape, images)
        before = attributes(model)
        again = answers_of(model, shape, images)
        counted = differing(before, attributes(model))
    changed += counted
    repeats = len(answers) == len(again) and all(map(_is_close, answers, again))
    return answers, changed, repeats


def _check_repeats(model: nn.Module, program: torch.export.ExportedProgram, repeats: bool) -> None:
    """Refuse a module whose answers differ, unless its program has operators of chance, which are refused by name."""
    if not repeats and not any(map(_is_random, program.graph.nodes)):
        raise ValueError(f"{type(model).__name__}: a network must return the same for the same images, every time")


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two answers are the same but for noise."""
    if one.shape != other.shape or one.dtype != other.dtype or not one.is_floating_point():
        return one.shape == other.shape and torch.equal(one, other)
    one, other = one.double(), other.double()
    largest = float(one.abs().nan_to_num(0, 0, 0).max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=_REPEATED * largest, equal_nan=True)


def program_of(model: nn.Module, shape: tuple[int, int, int], count: int = 1) -> torch.export.ExportedProgram:
    """A module's functional program; the module must be in evaluation mode (:func:`undisturbed`).

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    count : int
        Images that it takes.

    Raises
    ------
    ValueError
        As :func:`export`.
    """
    images = images_for(model, shape, count)
    _, changed, repeats = _called(model, shape, images)
    with kept(model):
        program = _program(model, images, changed)
    _check_repeats(model, program, repeats)
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


def exported_program(
    program: torch.export.ExportedProgram, shape: tuple[int, int, int], images: torch.Tensor
) -> Exported:
    """The operators of a functional program, which stays as it is.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    images : tensor
        As many as the program takes.

    Raises
    ------
    ValueError
        When the program can't compute them.
    """
    own = copy.deepcopy(program.graph_module)
    for node, original in zip(own.graph.nodes, program.graph.nodes, strict=True):
        node.name = original.name  # A copy renames what is called as something of Python's.
    try:
        values = _Recorder(own).record(_inputs(program, images))
    except Exception as error:  # Operators may raise anything.
        raise ValueError(
            f"the program can't compute images of shape {tuple(images.shape)}: {first_line(error)}"
        ) from error
    output = next(iter(reversed(own.graph.nodes)))
    answers = tuple(values[node] for node in output.args[0] if isinstance(node, fx.Node))
    stacks = [node.meta.get("nn_module_stack") or {} for node in own.graph.nodes]
    names = {name.split("@")[0] for stack in stacks for name, _ in stack.values()}
    single = {name.split("@")[0] for stack in stacks for name, kind in stack.values() if kind == _STEP_MODULE}
    modules = [(name, NamedModule() if name in single else _Unknown()) for name in sorted(names | {""})]
    (image,) = program.graph_signature.user_inputs
    return _pruned(own.graph, image, shape, values, answers, modules, lambda: tuple(each[:1] for each in answers))


def recorded(program: torch.export.ExportedProgram, images: torch.Tensor) -> dict[fx.Node, Any]:
    """What every node of a program is for images."""
    return _Recorder(program.graph_module).record(_inputs(program, images))


class NamedModule(nn.Module):
    """What stands for a module of a program that is one step, which has its name."""


class _Unknown(nn.Module):
    """What stands for a module of a program, of which nothing but the name is left."""


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


def _program(model: nn.Module, images: torch.Tensor, changed: list[str]) -> torch.export.ExportedProgram:
    """The functional graph of a module, which must change nothing that it holds; ``changed`` is what a call did."""
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


def _inputs(program: torch.export.ExportedProgram, images: torch.Tensor) -> list[Any]:
    """What the graph takes: parameters, buffers, constants and objects as the module holds them, and the images."""
    signature = program.graph_signature
    held: dict[str, Any] = {}
    for named in (signature.inputs_to_parameters, signature.inputs_to_buffers):
        held |= {
            name: program.constants[key] if key in program.constants else program.state_dict[key]
            for name, key in named.items()
        }
    for named in (signature.inputs_to_lifted_tensor_constants, signature.inputs_to_lifted_custom_objs):
        held |= {name: program.constants[key] for name, key in named.items()}
    inputs = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    return [held.get(name, images) for name in inputs]


def _is_random(node: fx.Node) -> bool:
    """Whether an operator draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


class _Recorder(fx.Interpreter):
    """Computes a graph and keeps what every node gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)

    def record(self, inputs: list[Any]) -> dict[fx.Node, Any]:
        """Every node's result."""
        self.run(*inputs)
        return dict(self.env)


def _pruned(
    graph: fx.Graph,
    name: str,
    shape: tuple[int, int, int],
    values: dict[fx.Node, Any],
    answers: tuple[torch.Tensor, ...],
    modules: Iterable[tuple[str, nn.Module]],
    alone: Callable[[], tuple[torch.Tensor, ...]],
) -> Exported:
    """Only what the logits depend on, without operators that give on what they take; the image's node has the name."""
    for node in list(graph.nodes):
        if node.target == _ATEN._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target in _PASSING:
            before, after = values[node.args[0]], values[node]
            if (before.shape, before.dtype) == (after.shape, after.dtype) and not arguments(node).get("train", False):
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
    graph.eliminate_dead_code()
    image = next(node for node in graph.nodes if node.name == name)
    varying = {image}
    for node in graph.nodes:
        if node.op == "call_function" and (varying.intersection(node.all_input_nodes) or _is_random(node)):
            varying.add(node)
    output = next(iter(reversed(graph.nodes)))
    return Exported(
        shape=shape,
        modules=dict(modules),
        nodes=tuple(node for node in graph.nodes if node in varying and node is not image),
        image=image,
        logits=tuple(output.args[0]),
        values=values,
        answers=answers,
        alone=alone,
    )
