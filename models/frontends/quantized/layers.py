"""Steps of a quantized program become layers: every quantize is the rounding of the steps right before it.

From the outputs backwards each quantize asks the step before it for codes on its scale. What rounds commutes with what
only moves or compares values: a clamp, a max pool, a concatenation hand the request on.
"""

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from hw.network.network import (
    INPUT,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool2D,
    Tensor,
)
from hw.numerics import Rounding
from models.frontends.identities import affine, averaged, concatenated, raw_output, rescaled, with_zero_logit
from models.frontends.pytorch.lowering import REFUSED, UnknownError
from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized.built_layers import BuiltLayers, output_of
from models.frontends.quantized.float_summands import MOST_CODES, codes_off, summand_quantization
from models.frontends.quantized.lowering import ANY, CodeRequest, Quantization, QuantizedLowering, QuantizedStep
from models.frontends.quantized.weights import in_one_scale, int8_parts, raw_linear, weight_codes
from models.frontends.requantization import int32_biases, weighted_fields

__all__ = ["LayerBuilder"]


class LayerBuilder:
    """Builds the layers that outputs need.

    What can't be built is noted among the problems; a layer that is none stands for it, so that what reads it is looked
    at, too.

    Parameters
    ----------
    found : QuantizedLowering

    Attributes
    ----------
    built : BuiltLayers
    nodes : dict of str to str
        The program's node whose codes are a tensor's, or their values, by the tensor's name.
    outputs : dict of str to (str, Quantization or None)
        The program's node that a raw layer stands for, by the layer's name, and how it is quantized, if it is.
    rounded : dict of str to array
        By how many steps each weight of a raw layer has been rounded to one scale, where any has, by the layer's name.
    unrounded : list of str
        Steps that are refused because something reads them in float; a step may come more than once.
    """

    def __init__(self, found: QuantizedLowering):
        self.found = found
        self.built = BuiltLayers()
        self.nodes: dict[str, str] = {}
        self.outputs: dict[str, tuple[str, Quantization | None]] = {}
        self.rounded: dict[str, np.ndarray] = {}
        self.unrounded: list[str] = []
        self._made: dict[tuple[str, CodeRequest], str] = {}
        self._readers = Counter(name for step in found.steps.values() for name in step.inputs)

    def head(self, output: str) -> str:
        """Build the raw layer of an output of the program; its name.

        Where a linear layer with one scale makes it, these are its accumulators; of one with several that isn't
        rounded, too, in steps of one scale. Otherwise they are the codes of the last map; of a mean over all positions
        that isn't rounded, the sums of its codes. Where something can't be built, the name is one of no layer.
        """
        try:
            return self._head(output)
        except UnknownError:
            return output
        except ValueError as error:
            self._refuse(output, str(error))
            return output

    def _head(self, output: str) -> str:
        step, last = self._step(output), None
        while isinstance(step, QuantizedStep) and step.kind in ("quantize", "monotone"):
            last = step if step.kind == "quantize" else None
            step = self._step(step.inputs[0])
        self.prepare([step.name])
        scales, off = self.found.scales.get(step.name), np.zeros(1)
        if step.kind == "linear" and scales is not None and (last is None or bool((scales == scales[0]).all())):
            head, off = self._raw_linear(step)
        elif last is not None:
            source = self._codes(last.name)
            head = raw_output(f"{step.name}.codes", source, self.built.tensor(source), channels_first=True)
        elif step.kind == "pool" and step.shape[:2] == (1, 1):
            head = self._raw_sums(step)
        elif step.kind == REFUSED:
            raise UnknownError
        else:
            raise ValueError(
                f"{step.name}: an output must be a linear layer or be quantized, not a {step.kind} as it is: "
                "let the quantizer round the output, too"
            )
        if head.output.shape[2] == 1:
            head = with_zero_logit(head)
        made = self.built.add(head)
        if off.any():
            self.rounded[made] = off
        self.outputs[made] = (self.found.nodes[(last or step).name].name, last.quantization if last else None)
        return made

    def prepare(self, names: Iterable[str]) -> None:
        """Build what these steps need from the image on, so that no request goes far back."""
        needed = set(names)
        for step in reversed(self.found.steps.values()):
            if step.name in needed:
                needed.update(step.inputs)
        for step in self.found.steps.values():
            if step.name in needed and step.kind in ("conv", "depthwise", "linear", "add", "affine"):
                summand = self._float_summand(step)
                for name in self._averaged(step).inputs:
                    with suppress(UnknownError):
                        if name != summand:
                            self._codes(name)

    def _averaged(self, step: GraphStep) -> GraphStep:
        """A step; a linear layer that reads a mean over all positions as it is: one that reads all positions."""
        pool = self.found.steps.get(step.inputs[0])
        if step.kind != "linear" or pool is None or pool.kind != "pool" or pool.shape[:2] != (1, 1):
            return step
        assert step.weight is not None
        assert pool.window is not None
        return replace(step, inputs=pool.inputs, weight=step.weight.expand(-1, -1, *pool.window), window=pool.window)

    def _step(self, name: str) -> GraphStep:
        if name == INPUT:
            raise ValueError("an output must be computed, not be the image")
        return self.found.steps[name]

    def _codes(self, name: str) -> str:
        """The tensor that holds the codes of a step which something reads."""
        if name == INPUT:
            return self._image_codes()
        step = self.found.steps[name]
        quantization = self.found.own(step)
        if quantization is None and self.found.is_refused(step):
            raise UnknownError
        if quantization is None:
            rule = "what a layer computes must be quantized before the next one reads it"
            is_summed = any(each.kind == "add" and name in each.inputs for each in self.found.steps.values())
            advice = f"let the quantizer round it, too{', as XNNPACKQuantizer does before a sum' * is_summed}"
            self.unrounded.append(name)
            raise self._refuse(name, f"{name}: {rule}, {step.kind} is read as it is: {advice}")
        rounds = step.kind == "quantize"
        made = self._made_of(step.inputs[0] if rounds else name, CodeRequest(quantization))
        for tensor in {made, INPUT} if rounds and step.inputs[0] == INPUT else {made}:
            if name in self.found.nodes:
                self.nodes.setdefault(tensor, self.found.nodes[name].name)
        return made

    def _image_codes(self) -> str:
        """The image's own codes, which are exactly what an operator gets that reads it in float."""
        rounded = next((each.name for each in self.found.steps.values() if _rounds_image(each)), None)
        if rounded is None:
            raise self._refuse(
                INPUT,
                "the image must be quantized before anything else reads it, as Brevitas' QuantIdentity does: "
                "what scales it can be said by --mean and --deviation instead",
            )
        return self._codes(rounded)

    def _made_of(self, name: str, request: CodeRequest) -> str:
        """The tensor that holds what a request asks of a step or of the image."""
        if (name, request) not in self._made:
            try:
                made = self._make(name, request)
            except UnknownError:
                made = self._stand_in(name, request)
            except ValueError as error:
                self._refuse(name, str(error))
                made = self._stand_in(name, request)
            self._made[name, request] = made
        return self._made[name, request]

    def _refuse(self, name: str, reason: str) -> UnknownError:
        """Note why a step, or what becomes of the image, can't be built; what is to be raised then."""
        self.found.refuse(self.found.nodes.get(name, self.found.exported.image), reason)
        return UnknownError()

    def _stand_in(self, name: str, request: CodeRequest) -> str:
        """A layer with the output that a step would have: it is none, for the step has been refused."""
        shape = self.found.shape(name)
        output = Tensor(shape=shape, scale=request.quantization.scale, zero_point=request.quantization.zero_point)
        return self.built.add(Add(name=f"?{name}", inputs=(INPUT, INPUT), output=output))

    def _make(self, name: str, request: CodeRequest) -> str:
        if name == INPUT:
            return self._make_image(request)
        step = self.found.steps[name]
        if step.kind == "quantize":
            return self._requantize(step, request)
        if isinstance(step, QuantizedStep) and step.kind == "clip":
            return self._made_of(step.inputs[0], request.within(step.bounds))
        if step.kind == "concat":
            return self._concat(step, request)
        if step.kind == "max_pool":
            return self._max_pool(step, request)
        if step.kind == "pool":
            return self._pool(step, request)
        if step.kind == "add":
            return self._add(step, request)
        if isinstance(step, QuantizedStep) and step.kind == "affine":
            return self._affine(step, request)
        if step.kind in ("conv", "depthwise", "linear"):
            return self.built.add(self._weighted(step, request))
        if step.kind == REFUSED:
            raise UnknownError
        raise ValueError(f"{name}: what only keeps the order of values must be at the end of a network")

    def _make_image(self, request: CodeRequest) -> str:
        quantization, shape = request.quantization, self.found.exported.shape
        image = Tensor(shape=shape, scale=quantization.scale, zero_point=quantization.zero_point)
        if request.bounds != ANY:
            raise ValueError("the image must be quantized before it is clamped")
        if self.built.image not in (None, image):
            scales = f"{self.built.image.scale} and {image.scale}"
            raise ValueError(f"the image must be quantized once, not with scales {scales}")
        self.built.image = image
        if (quantization.low, quantization.high) == (-128, 127):
            return INPUT
        return self.built.add(rescaled("input.clamp", INPUT, image, clamp=request.clamp))

    def _requantize(self, step: GraphStep, request: CodeRequest) -> str:
        """Codes as they are, or through a convolution that rescales and clamps them."""
        assert isinstance(step, QuantizedStep)
        if step.quantization == request.quantization and self._readers[step.name] == 1 and step.inputs[0] != INPUT:
            return self._made_of(step.inputs[0], request)  # What reads the codes now is what clamps them.
        source = self._codes(step.name)
        within, (low, high) = self.built.clamp(source), request.clamp
        if step.quantization == request.quantization and low <= within[0] and within[1] <= high:
            return source
        layer = rescaled(step.name, source, self.built.tensor(source), output_of(step, request), request.clamp)
        return self.built.add(layer)

    def _float_summand(self, step: GraphStep) -> str | None:
        """What a sum reads that isn't rounded, where its other summand is."""
        if step.kind != "add":
            return None
        unrounded = {name for name in step.inputs if name != INPUT and self.found.own(self._step(name)) is None}
        if len(unrounded) != 1 or set(step.inputs) == unrounded:
            return None
        (name,) = unrounded
        return None if self.found.is_refused(self._step(name)) else name

    def _add(self, step: GraphStep, request: CodeRequest) -> str:
        """A sum of codes; a summand that isn't rounded is, so that the sum's codes differ least."""
        summand, error = self._float_summand(step), 0.0
        made = {name: self._codes(name) for name in step.inputs if name != summand}
        if summand is not None:
            (other,) = made.values()
            given = summand_quantization(request, self.built.tensor(other), self.built.clamp(other))
            made[summand] = self._made_of(summand, CodeRequest(given))
            error = given.scale / 2 + self.built.errors.get(made[summand], 0.0)
            off = codes_off(error, request.quantization.scale)
            if off > MOST_CODES:
                raise ValueError(
                    f"{step.name}: a sum with a summand that isn't rounded must differ by {MOST_CODES} codes at most, "
                    f"not {off}: let the quantizer round {summand}, too, as XNNPACKQuantizer does"
                )
        inputs = tuple(made[name] for name in step.inputs)
        add = Add(name=step.name, inputs=inputs, output=output_of(step, request), clamp=request.clamp)
        name = self.built.add(add)
        if summand is not None:
            self.built.errors[name] = error
        return name

    def _affine(self, step: QuantizedStep, request: CodeRequest) -> str:
        assert step.gain is not None
        assert step.offset is not None
        source, output = self._codes(step.inputs[0]), output_of(step, request)
        gain, offset = (values.double().numpy() for values in (step.gain, step.offset))
        before = self.built.tensor(source)
        return self.built.add(affine(step.name, source, before, output, gain, offset, request.clamp))

    def _concat(self, step: GraphStep, request: CodeRequest) -> str:
        parts = []
        for name in step.inputs:
            part = self.found.steps.get(name)
            is_code = part is not None and part.kind == "quantize"
            parts.append(self._codes(name) if is_code else self._made_of(name, request))
        return self.built.passed(self.built.together(step, parts, request), parts)

    def _max_pool(self, step: GraphStep, request: CodeRequest) -> str:
        assert step.window is not None
        own = self.found.own(step)
        inner = request if own is None else CodeRequest(own, request.bounds if own == request.quantization else ANY)
        source = self._made_of(step.inputs[0], inner) if own is None else self._codes(step.inputs[0])
        pool = MaxPool2D(
            name=step.name, inputs=(source,), output=output_of(step, inner), clamp=inner.clamp,
            window=step.window, stride=step.stride, pads=step.pads,
        )  # fmt: skip
        made = self.built.passed(self.built.add(pool), [source])
        if inner.quantization == request.quantization:
            return made
        layer = rescaled(f"{step.name}.scale", made, pool.output, output_of(step, request), request.clamp)
        return self.built.add(layer)

    def _pool(self, step: GraphStep, request: CodeRequest) -> str:
        """An average; that of maps put together is made of each of them first."""
        assert step.window is not None
        inner = self.found.steps.get(step.inputs[0])
        along_channels = isinstance(inner, QuantizedStep) and inner.kind == "concat" and inner.axis == 2
        if inner is not None and along_channels and self.found.own(inner) is None:
            return self._pools(step, inner, request)
        source = self._codes(step.inputs[0])
        before, after = self.built.tensor(source), output_of(step, request)
        common: dict[str, Any] = {"name": step.name, "inputs": (source,), "output": after, "clamp": request.clamp}
        layer: Layer
        if (before.scale, before.zero_point) != (after.scale, after.zero_point):
            layer = averaged(step.name, source, before, after, step.window, step.stride, request.clamp)
        elif step.window == before.shape[:2]:
            layer = GlobalAveragePool(**common)
        else:
            layer = AveragePool2D(**common, window=step.window, stride=step.stride)
        return self.built.add(layer)

    def _pools(self, step: GraphStep, inner: GraphStep, request: CodeRequest) -> str:
        parts = []
        for number, name in enumerate(inner.inputs):
            shape = (*step.shape[:2], self.built.tensor(self._codes(name)).shape[2])
            part = replace(step, name=f"{step.name}.of{number}", inputs=(name,), shape=shape)
            parts.append(self._pool(part, request))
        return self.built.together(step, parts, request)

    def _weight_codes(self, step: GraphStep) -> tuple[str, np.ndarray]:
        """What a step reads, and its weights as integers."""
        codes, problem = weight_codes(step, self.found.scales[step.name].numpy())
        refusal = self._refuse(step.name, f"{step.name}: {problem}") if problem else None
        source = self._codes(step.inputs[0])
        if refusal is not None:
            raise refusal
        return source, codes

    def _integers(
        self, step: GraphStep, source: str, codes: np.ndarray, scales: np.ndarray
    ) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
        """What a step reads, its weights and biases as integers, and the real value of a step of its accumulators."""
        assert step.bias is not None
        units = scales * self.built.tensor(source).scale / math.prod(step.window or (1, 1))
        bias = np.rint(step.bias.double().numpy() / units)
        source, weight = self._within(step, source, codes)
        return source, weight, bias, units

    def _within(self, step: GraphStep, source: str, codes: np.ndarray) -> tuple[str, np.ndarray]:
        """Weights that int8 holds; those of uint8 that are beyond become sums, each part of a copy of the map."""
        parts = int8_parts(codes, depthwise=step.kind == "depthwise")
        if len(parts) == 1:
            return source, parts[0]
        tensor = self.built.tensor(source)
        height, width, channels = tensor.shape
        wide = replace(tensor, shape=(height, width, channels * len(parts)))
        layers = concatenated(self.built.free(f"{step.name}.copies"), [(source, tensor)] * len(parts), wide)
        return [self.built.add(layer) for layer in layers][-1], np.concatenate(parts, axis=3)

    def _weighted(self, step: GraphStep, request: CodeRequest) -> Layer:
        step = self._averaged(step)
        scales = self.found.scales[step.name].numpy()
        source, weight, bias, units = self._integers(step, *self._weight_codes(step), scales)
        output = output_of(step, request)
        fields = weighted_fields(step.name, weight, bias, units / output.scale, Rounding.SINGLE)
        common: dict[str, Any] = {"name": step.name, "inputs": (source,), "output": output, "clamp": request.clamp}
        common |= fields
        if step.kind == "linear":
            return Linear(**common)
        kind = DepthwiseConv2D if step.kind == "depthwise" and weight.shape[3] == 1 else Conv2D
        return kind(**common, stride=step.stride, pads=step.pads)

    def _raw_linear(self, step: GraphStep) -> tuple[Linear, np.ndarray]:
        """A head, and by how many steps each of its weights has been rounded to one scale."""
        step = self._averaged(step)
        source, codes = self._weight_codes(step)
        codes, scale, off = in_one_scale(codes, self.found.scales[step.name].numpy())
        source, weight, bias, units = self._integers(step, source, codes, np.array([scale]))
        return raw_linear(step.name, source, weight, int32_biases(step.name, bias), float(units[0])), off

    def _raw_sums(self, step: GraphStep) -> Linear:
        """Sums over all positions of a map, channel by channel, which are in the order of its means."""
        source = self._codes(step.inputs[0])
        tensor = self.built.tensor(source)
        height, width, channels = tensor.shape
        weight = np.zeros((channels, height, width, channels), dtype=np.int8)
        weight[np.arange(channels), :, :, np.arange(channels)] = 1
        return raw_linear(
            step.name, source, weight, np.zeros(channels, dtype=np.int32), tensor.scale / (height * width)
        )


def _rounds_image(step: GraphStep) -> bool:
    return step.kind == "quantize" and step.inputs == (INPUT,)
