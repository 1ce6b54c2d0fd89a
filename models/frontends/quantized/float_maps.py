"""Programs that leave maps in float which something other than a sum reads: images set the ranges to round them on.

Inductor's quantizers leave what pools read in float where the network is written with functions. Codes for such maps
need a range, and the program has none: it gets a quantize and a dequantize there, whose scale holds all values of the
images given. What is read and compared then is the program with these maps rounded.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature

from models.frontends.pytorch.exported import recorded
from models.frontends.pytorch.functional import functional, image_taken, images_taken
from models.frontends.quantized.operators import QUANTIZE
from models.frontends.quantized.reader import QuantizedImport, UnroundedError, import_quantized
from models.integer.exact import exact

__all__ = ["import_on_images"]

_QD = torch.ops.quantized_decomposed
_LOWEST, _HIGHEST = -128, 127  # codes
_LEAST = 2.0**-12  # scale of a map, as PT2E's observers have it


def import_on_images(program: ExportedProgram, images: np.ndarray, *, name: str = "network") -> QuantizedImport:
    """The integer network of a quantized program, as :func:`import_quantized`, which may leave maps in float.

    Parameters
    ----------
    images : array of float, (N, height, width, channels)
        As the program takes them, of the classes that it is to tell apart.

    Raises
    ------
    ValueError
        As :func:`import_quantized`, and when there are no images, they are of another shape, or no map is in float.
    """
    original = functional(program)
    runs = _Runs.of(original, images)
    changed, rounded = original, list[str]()
    while True:
        try:
            found = import_quantized(changed, name=name)
        except UnroundedError as error:
            new = [each for each in error.nodes if each not in rounded]
            if not new:
                raise
            rounded += new
            changed = _rounded(original, runs.ranges(original, rounded))
        else:
            break
    if not rounded:
        raise ValueError("images must go with a program that leaves maps in float: this one rounds all that are read")
    ratios = ", ".join(f"{ratio:.1f}" for ratio in runs.ratios(changed, original))
    note = (
        f"{', '.join(rounded)}: left in float by the program, here rounded on the range of {len(images)} images, and "
        f"so in the program that is compared: its outputs are {ratios} dB above what that changes"
    )
    return replace(found, notes=(note, *found.notes))


def _rounded(program: ExportedProgram, ranges: Mapping[str, tuple[float, float]]) -> ExportedProgram:
    """The program with a quantize and a dequantize behind these nodes; a quantize that reads one does so still."""
    module = copy.deepcopy(program.graph_module)
    for node, original in zip(module.graph.nodes, program.graph.nodes, strict=True):
        node.name = original.name  # A copy renames what is called as something of Python's.
    for node in [each for each in module.graph.nodes if each.name in ranges]:
        low, high = ranges[node.name]
        scale = max((high - low) / (_HIGHEST - _LOWEST), _LEAST)
        quantized = (scale, round(_LOWEST - low / scale), _LOWEST, _HIGHEST, torch.int8)
        with module.graph.inserting_after(node):
            codes = module.graph.call_function(_QD.quantize_per_tensor.default, (node, *quantized))
        with module.graph.inserting_after(codes):
            values = module.graph.call_function(_QD.dequantize_per_tensor.default, (codes, *quantized))
        said = {key: node.meta[key] for key in ("stack_trace", "nn_module_stack") if key in node.meta}
        codes.meta = said | {"val": node.meta["val"].to(torch.int8)}
        values.meta = said | {"val": node.meta["val"]}
        node.replace_all_uses_with(values, lambda user, codes=codes: user is not codes and user.target not in QUANTIZE)
    module.recompile()
    return ExportedProgram(
        root=module, graph=module.graph, graph_signature=_with_outputs(program, module.graph),
        state_dict=program.state_dict, range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph, constants=program.constants,
    )  # fmt: skip


def _with_outputs(program: ExportedProgram, graph: fx.Graph) -> ExportGraphSignature:
    """The signature of a program whose outputs may be other nodes."""
    signature = copy.deepcopy(program.graph_signature)
    for spec, node in zip(signature.output_specs, next(iter(reversed(graph.nodes))).args[0], strict=True):
        spec.arg.name = node.name
    return signature


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Images as a program takes them, so many at once; the last ones are filled up."""

    batches: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, program: ExportedProgram, images: np.ndarray) -> "_Runs":
        taken, (height, width, channels) = images_taken(program)
        if not image_taken(program).is_floating_point():
            raise ValueError(f"images must go with a program that takes floats, not {image_taken(program).dtype}")
        if images.ndim != 4 or images.shape[1:] != (height, width, channels) or not len(images):
            raise ValueError(f"images must be of shape (N, {height}, {width}, {channels}), not {images.shape}")
        values = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).reshape(-1, *taken[1:])
        parts = values.to(image_taken(program).dtype).split(taken[0])
        fill = [part[-1:].expand(taken[0] - len(part), *part.shape[1:]) for part in parts]
        return cls(batches=tuple(torch.cat(pair) for pair in zip(parts, fill, strict=True)))

    def ranges(self, program: ExportedProgram, names: list[str]) -> dict[str, tuple[float, float]]:
        """The smallest and the largest value of each of these nodes, and 0."""
        low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for values in self._values(program):
            for name in names:
                low[name] = min(low[name], float(values[name].min()))
                high[name] = max(high[name], float(values[name].max()))
        return {name: (low[name], high[name]) for name in names}

    def ratios(self, changed: ExportedProgram, original: ExportedProgram) -> list[float]:
        """Signal to noise of each output against that of the original program, in decibel."""
        sums = np.zeros((2, len(changed.graph_signature.user_outputs)))
        for one, other in zip(self._values(original), self._values(changed), strict=True):
            pairs = zip(original.graph_signature.user_outputs, changed.graph_signature.user_outputs, strict=True)
            for number, (expected, made) in enumerate(pairs):
                signal = one[expected].double()
                sums[:, number] += float(signal.square().sum()), float((other[made].double() - signal).square().sum())
        return [10 * math.log10(signal / noise) if signal and noise else math.inf for signal, noise in sums.T]

    def _values(self, program: ExportedProgram) -> Iterator[dict[str, torch.Tensor]]:
        for batch in self.batches:
            yield _values(program, batch)


def _values(program: ExportedProgram, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each node of a program is for images, by its name."""
    with torch.inference_mode(False), torch.no_grad(), exact():
        return {node.name: value for node, value in recorded(program, batch).items()}
