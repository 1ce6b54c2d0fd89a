"""From an ONNX graph to its module: constants folded, codes followed, all that can't be refused at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from torch import nn

from models.frontends.onnx.file import MICROSOFT, OnnxGraph, OnnxNode
from models.frontends.onnx.layers import Between, Quantize
from models.frontends.onnx.layout import Layouts, channels_first
from models.frontends.onnx.module import OnnxModule, OnnxProgram, OnnxStep
from models.frontends.onnx.operators import OPERATORS, nearest
from models.frontends.onnx.quantized import QUANTIZED, clipped, dequantize, quantize
from models.frontends.onnx.sites import Codes, Coding, RefusalError, Site
from models.frontends.onnx.sizes import FOLDED, SizesEvaluator
from models.frontends.onnx.stand_in import StandIn

__all__ = ["build"]

_QUANTIZE = ("QuantizeLinear", f"{MICROSOFT}.QuantizeLinear")
_DEQUANTIZE = ("DequantizeLinear", f"{MICROSOFT}.DequantizeLinear")
_MOVING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")  # of constants, which stay codes
_SIZED = ("Reshape", "Slice")  # operators that may read sizes which are computed
_ATTRIBUTES = ("axis", "saturate", "block_size", "output_dtype", "precision")


def build(graph: OnnxGraph, shape: tuple[int, int, int], notes: tuple[str, ...]) -> OnnxModule:
    """The module of a graph, in which maps have their channels first; it says which nodes can't be followed."""
    turned, layouts = channels_first(graph)
    return _Builder(turned).module(shape, notes, layouts)


class _Builder:
    """The steps so far, and what is known of every tensor."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.evaluate = SizesEvaluator(graph.opset)
        self.constants = dict(graph.constants)
        self.codes: dict[str, Codes] = {}
        self.maps: dict[str, Coding] = {}
        self.sizes: set[str] = set()
        self.unknown: set[str] = set()
        self.steps: list[OnnxStep] = []
        self.children: dict[str, nn.Module] = {}
        self.problems: list[str] = []
        self.readers = Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])
        self.taken = {graph.input.name, *self.constants, *(name for node in graph.nodes for name in node.outputs)}

    def module(self, shape: tuple[int, int, int], notes: tuple[str, ...], layouts: Layouts) -> OnnxModule:
        source = self._source()
        for node in chain.from_iterable(map(_parts, self.graph.nodes)):
            try:
                self._add(node)
            except RefusalError as error:
                self._refuse(node, str(error))
        outputs = tuple(map(self._floats, self.graph.outputs))
        read = {name for step in self.steps if step.child is None for name in step.inputs}
        program = OnnxProgram(
            shape=shape, source=self.graph.input, steps=tuple(self.steps),
            constants={name: self.constants[name] for name in read & self.constants.keys()}, outputs=outputs,
            codes=source, quantized=bool(self.maps), notes=notes, layouts=layouts,
            refused=tuple(self.problems),
        )  # fmt: skip
        return OnnxModule(program, self.children, self.evaluate)

    def _refuse(self, node: OnnxNode, reason: str) -> None:
        """Note why a node can't be followed; where it is of maps in float alone, something stands for it."""
        self.problems.append(reason)
        given = [name for name in node.inputs if name]
        constants = {name: self.constants[name] for name in given if name in self.constants}
        constants |= {name: self.codes[name].floats() for name in given if name in self.codes}
        maps = list(dict.fromkeys(name for name in given if name not in constants))
        others = {*self.maps, *self.sizes, *self.unknown}
        if maps and given[0] == maps[0] and not others.intersection(maps) and len(node.outputs) == 1:
            self._put(node, StandIn(node, reason, self.graph.opset, constants), maps, node.outputs[0])
        else:
            self.unknown.update(node.outputs)

    def _source(self) -> Coding | None:
        """What an input of codes stands for: it is made of floats first."""
        image = self.graph.input
        if image.dtype not in ("INT8", "UINT8"):
            return None
        found = self._meaning(image.name)
        if found is not None:
            node = OnnxNode(operator="QuantizeLinear", name=image.name, inputs=(), outputs=(image.name,), attributes={})
            self.maps[image.name] = found
            self._put(node, Quantize(found), (image.name,), image.name)
        return found

    def _meaning(self, name: str) -> Coding | None:
        """What a map of codes stands for by what reads it; None where that takes the numbers themselves."""
        for node in self.graph.nodes:
            if name not in node.inputs:
                continue
            if node.operator in _DEQUANTIZE or node.operator in QUANTIZED:
                return self._site(node).quantization(node.inputs.index(name) + 1)
            rule = OPERATORS.get(node.operator)
            if rule is not None and rule.keeps and (found := self._meaning(node.outputs[0])):
                return found
        return None

    def _site(self, node: OnnxNode) -> Site:
        return Site(
            node=node, opset=self.graph.opset, batch=self.graph.input.sizes[0], constants=self.constants,
            codes=self.codes, maps=self.maps,
        )  # fmt: skip

    def _add(self, node: OnnxNode) -> None:
        """Let the module compute a node."""
        self._check(node)
        if self.unknown.intersection(node.inputs):
            self.unknown.update(node.outputs)
            return
        site, given = self._site(node), [name for name in node.inputs if name]
        output = node.outputs[0]
        fixed = all(name in self.constants or name in self.codes for name in given)
        if node.operator in _DEQUANTIZE:
            self._dequantize(site, output)
        elif node.operator in _MOVING and fixed and given[0] in self.codes and (moved := self._moved(site)):
            self.codes[output] = moved
        elif node.operator in FOLDED and fixed:
            self.constants[output] = self.evaluate(node, self._arrays(site))
        elif node.operator == "Shape" or (
            node.operator in FOLDED and all(name in self.constants or name in self.sizes for name in given)
        ):
            self._sizes(node)
        elif node.operator in _QUANTIZE:
            self.maps[output] = found = quantize(site)
            self._put(node, Quantize(found), node.inputs[:1], output)
        elif node.operator == "Clip" and node.inputs[0] in self.maps:
            self._clip(site, output)
        elif node.operator in QUANTIZED:
            rule = QUANTIZED[node.operator]
            found_module, target = rule.build(site)
            if target is not None:
                self.maps[output] = target
            maps = [node.inputs[n] for n in rule.maps(len(node.inputs)) if node.inputs[n] not in self.constants]
            self._put(node, found_module, maps, output)
        elif not (node.operator == "Add" and self._bias(site, output)):
            self._plain(site, output)

    def _check(self, node: OnnxNode) -> None:
        """Refuse operators and attributes that aren't known."""
        operator = node.operator
        if operator in _QUANTIZE or operator in _DEQUANTIZE:
            known: Sequence[str] = _ATTRIBUTES
        elif operator in OPERATORS or operator in QUANTIZED:
            known = OPERATORS[operator].attributes if operator in OPERATORS else QUANTIZED[operator].attributes
        elif (
            operator in FOLDED
            and all(
                name in self.constants or name in self.codes or name in self.sizes or name in self.unknown or not name
                for name in node.inputs
            )
        ) or operator == "Shape":
            return
        else:
            names = sorted([*OPERATORS, *QUANTIZED])
            raise RefusalError(f"{node} isn't supported; the nearest that is: {nearest(operator, names)}")
        unknown = sorted(set(node.attributes) - set(known))
        if unknown:
            raise RefusalError(f"{node}: attributes must be among {', '.join(known) or 'none'}, not {unknown}")
        if not node.inputs or not node.inputs[0]:
            raise RefusalError(f"{node}: its first input must be there")

    def _moved(self, site: Site) -> Codes | None:
        """Constant codes that a node moves, where what they stand for can still be said; None: their floats move."""
        _, *others = self._arrays(site)
        return self.codes[site.name(0)].moved(lambda values: self.evaluate(site.node, [values, *others]))

    def _arrays(self, site: Site) -> list[np.ndarray | None]:
        return [site.constant(number, "an input") for number in range(len(site.node.inputs))]

    def _sizes(self, node: OnnxNode) -> None:
        self.sizes.add(node.outputs[0])
        self.steps.append(OnnxStep(node=node, child=None, inputs=node.inputs, output=node.outputs[0]))

    def _dequantize(self, site: Site, output: str) -> None:
        found = dequantize(site)
        if isinstance(found, Codes):
            self.codes[output] = found
        else:
            self._put(site.node, Quantize(found, back=True), site.node.inputs[:1], output)

    def _clip(self, site: Site, output: str) -> None:
        """A Clip of codes: the range of what quantizes them becomes narrower."""
        name = site.node.inputs[0]
        found = clipped(site, self.maps[name])
        index = next((n for n, step in enumerate(self.steps) if step.output == name), None)
        before = None if index is None else self.children[self.steps[index].child or ""]
        self.maps[output] = found
        if index is not None and isinstance(before, Quantize) and self.readers[name] == 1:
            before.of = found
            self.steps[index] = replace(self.steps[index], output=output)
        else:
            self._put(site.node, Between([self.maps[name]], nn.Identity(), found), [name], output)

    def _bias(self, site: Site, output: str) -> bool:
        """Whether an Add is of a constant behind a MatMul that nothing else reads: then it is its bias."""
        node = site.node
        if len(node.inputs) != 2 or sum(map(site.is_constant, (0, 1))) != 1:
            return False
        constant = 0 if site.is_constant(0) else 1
        name, bias = node.inputs[1 - constant], node.inputs[constant]
        index = next((n for n, step in enumerate(self.steps) if step.output == name), None)
        before = None if index is None else self.steps[index]
        if before is None or before.node.operator != "MatMul" or self.readers[name] != 1 or len(before.node.inputs) > 2:
            return False
        both = replace(before.node, inputs=(*before.node.inputs, bias))
        try:
            made = OPERATORS["MatMul"].build(self._site(both))
        except RefusalError:
            return False
        assert before.child is not None
        assert index is not None
        self.children[before.child] = made
        self.steps[index] = replace(before, node=both, output=output)
        return True

    def _plain(self, site: Site, output: str) -> None:
        """An operator of floats, which on codes stands between what makes floats of them and back."""
        node, rule = site.node, OPERATORS[site.node.operator]
        module = rule.build(site)
        maps = [name for name in node.inputs if name and name not in self.constants and name not in self.codes]
        sizes = [name for name in maps if name in self.sizes]
        if not maps or maps[0] in self.sizes or (sizes and node.operator not in _SIZED):
            raise RefusalError(
                f"{node}: it must read maps that depend on the image, and sizes by Reshape or Slice alone"
            )
        if "map" in node.attributes:  # whose sizes say how the weights' rows are turned
            maps.append(node.attributes["map"])
        coded = [self.maps[name] for name in maps if name in self.maps]
        if node.operator in _SIZED and len(maps) > 1 + len(sizes):
            raise RefusalError(f"{node}: sizes must be constant or computed from sizes of maps")
        if coded:
            if not rule.keeps:
                raise RefusalError(f"{node}: it must read floats; a DequantizeLinear before it makes them of codes")
            module, self.maps[output] = Between(coded, module, coded[0]), coded[0]
        self._put(node, module, maps, output)

    def _floats(self, name: str) -> str:
        """An output, made floats of where it is codes."""
        if name not in self.maps:
            if name in self.constants or name in self.codes or name in self.sizes or name == self.graph.input.name:
                self.problems.append(f"output {name!r} must be computed from the image by nodes")
            return name
        output = next(new for n in range(len(self.taken) + 1) if (new := f"{name}.{n}") not in self.taken)
        self.taken.add(output)
        node = OnnxNode(operator="DequantizeLinear", name=output, inputs=(name,), outputs=(output,), attributes={})
        self._put(node, Quantize(self.maps[name], back=True), (name,), output)
        return output

    def _put(self, node: OnnxNode, module: nn.Module, inputs: Sequence[str], output: str) -> None:
        """A step whose child has the node's name, as far as a module may have it."""
        wanted = node.name.replace(".", "_") or "node"
        names = (wanted, *(f"{wanted}_{n}" for n in range(1, len(self.children) + 3)))
        child = next(name for name in names if name not in self.children and OnnxModule.may_be_called(name))
        self.children[child] = module
        self.steps.append(OnnxStep(node=node, child=child, inputs=tuple(inputs), output=output))


def _parts(node: OnnxNode) -> list[OnnxNode]:
    """A node; of a Split one for each of its results."""
    if node.operator != "Split":
        return [node]
    count = len(node.outputs)
    return [
        replace(node, outputs=(output,), attributes={**node.attributes, "part": part, "parts": count})
        for part, output in enumerate(node.outputs)
        if output
    ]
