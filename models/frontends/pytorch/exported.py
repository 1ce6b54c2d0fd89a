"""A PyTorch module or program as the operators of its functional graph, with what they compute of samples."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from hw.rules import first_line
from models.frontends.pytorch.calls import answers_of, images_for
from models.frontends.pytorch.functional import functional_program
from models.frontends.pytorch.held import attributes, differing, kept
from models.networks.named_steps import NamedSteps

__all__ = [
    "Exported",
    "arguments",
    "export",
    "exported_program",
    "program_of",
    "recorded",
]

_SAMPLES = 3  # images; no size that a network is likely to have of itself, so that no reshape mixes images unseen

#: Of the largest answer: how far those of two calls may be apart.
_REPEATED = 1e-6

#: Modules of PyTorch's that are one operator each: a step has their name.
_SINGLE = (nn.Conv2d, nn.Conv1d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d)

_ATEN = torch.ops.aten
#: What gives its first argument on in evaluation mode, where shape and type stay.
_PASSING = {
    _ATEN.clone.default, _ATEN.alias.default, _ATEN.detach.default, _ATEN.contiguous.default, _ATEN.expand.default,
    _ATEN._to_copy.default, _ATEN.to.dtype, _ATEN.to.dtype_layout, _ATEN.to.device, _ATEN.to.other,
    _ATEN.dropout.default, _ATEN.feature_dropout.default, _ATEN.alpha_dropout.default,
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
    step_names : dict of str to str
        What steps are called, by the names of modules that are one step each.
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
    step_names: Mapping[str, str]
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
        program = functional_program(model, images, changed)
        _check_repeats(model, program, repeats)
        values = recorded(program, images)

    def alone() -> tuple[torch.Tensor, ...]:
        with kept(model):
            return answers_of(model, shape, images[:1])

    (image,) = program.graph_signature.user_inputs
    modules = dict(model.named_modules(remove_duplicate=False))
    names = {name: name for name, module in modules.items() if name and isinstance(module, _SINGLE)}
    if isinstance(model, NamedSteps):
        names |= model.step_names
    return _pruned(program.graph, image, shape, values, answers, modules, names, alone)


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
        program = functional_program(model, images, changed)
    _check_repeats(model, program, repeats)
    return program


def exported_program(
    program: torch.export.ExportedProgram,
    shape: tuple[int, int, int],
    images: torch.Tensor,
    step_names: Mapping[str, str] | None = None,
) -> Exported:
    """The operators of a functional program, which stays as it is.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    images : tensor
        As many as the program takes.
    step_names : dict of str to str, optional
        What steps are called, by the names of the program's modules that are one step each.

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
    modules = {name: _Unknown() for name in sorted(names | {""})}
    (image,) = program.graph_signature.user_inputs

    def alone() -> tuple[torch.Tensor, ...]:
        return tuple(each[:1] for each in answers)

    return _pruned(own.graph, image, shape, values, answers, modules, step_names or {}, alone)


def recorded(program: torch.export.ExportedProgram, images: torch.Tensor) -> dict[fx.Node, Any]:
    """What every node of a program is for images."""
    return _Recorder(program.graph_module).record(_inputs(program, images))


class _Unknown(nn.Module):
    """What stands for a module of a program, of which nothing but the name is left."""


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
    modules: Mapping[str, nn.Module],
    step_names: Mapping[str, str],
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
        modules=modules,
        step_names=step_names,
        nodes=tuple(node for node in graph.nodes if node in varying and node is not image),
        image=image,
        logits=tuple(output.args[0]),
        values=values,
        answers=answers,
        alone=alone,
    )
