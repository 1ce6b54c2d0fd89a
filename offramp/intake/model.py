"""A model that a user names, of any kind: what it is, and the integer network that becomes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from hw.network import network_file
from hw.network.network import Network
from hw.program.program import Program
from hw.rules import check_image, require
from models import zoo
from models.compression.calibration import calibrate
from models.datasets.sources import Progress
from models.datasets.splits import NAMES
from models.frontends.identities import ONE_VALUE
from models.frontends.onnx import reader as onnx_reader
from models.frontends.onnx.module import OnnxModule
from models.frontends.onnx.reference import feed, runtime_outputs
from models.frontends.onnx.stand_in import OnnxRefusalError
from models.frontends.pytorch.calls import computes, layout_of, outputs_in
from models.frontends.pytorch.functional import image_taken, images_taken
from models.frontends.quantized.float_maps import import_on_images
from models.frontends.quantized.program_file import read_program
from models.frontends.quantized.program_tensors import QuantizedSource
from models.frontends.quantized.reader import QuantizedImport, UnroundedError, import_quantized
from models.frontends.tflite import reader as tflite_reader
from models.integer.exact import exact
from models.networks.residual_net import to_torch
from models.recipes import checkpoint
from offramp.files.kinds import expect, kind_of
from offramp.files.program_files import program
from offramp.intake import samples
from offramp.intake.reference import Agreement, litert, named, onnx_images, onnx_runtime
from offramp.intake.reference import program as program_agreement
from offramp.intake.request import ModelRequest
from offramp.intake.user_module import of_request

__all__ = ["Model", "Runtime", "read"]

_ONNX_RUNTIME = "ONNX Runtime"
#: Images that a float module is calibrated on, at most.
_CALIBRATION = 512


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How the source of a model computes by itself.

    Parameters
    ----------
    name : str
    exact : bool
        Whether every tensor must be equal; else it rounds otherwise, and what differs is counted.
    compare : function of int8 array (N, height, width, channels) and Progress or None
        How golden stands to it on images, as codes. It raises :class:`UnableError` where it can't run the source.
    otherwise : Runtime or None
        What serves where it can't.
    """

    name: str
    exact: bool
    compare: Callable[[np.ndarray, Progress | None], Agreement]
    otherwise: "Runtime | None" = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network and where it is from.

    Parameters
    ----------
    network : Network
    origin : str
        What it was made of, in words.
    activity : dict of str to float array (channels,)
        Share of nonzero activations by tensor and channel; empty where unknown.
    program : Program or None
        Of a program's file: what it holds.
    config : str or None
        Config that it was made for, where that is known.
    data : str or None
        Data set that it was trained on, where that is known.
    floats : function or None
        Of a float model: logits (N, classes) of images (N, height, width, channels).
    float_maps : function or None
        Of a float model: what it computes at the network's layers (N, height, width, channels), by layer, of images
        (N, height, width, channels).
    runtime : Runtime or None
        Of the source, where it has one.
    classifiers : dict of str to function
        Others that name classes (N,) of images as codes (N, height, width, channels), by what they are called; None
        where their output is no choice.
    has_source : bool
        Whether what it was made of is at hand; of our own files it isn't.
    notes : tuple of str
        What a user must know of how it was read.
    """

    network: Network
    origin: str
    activity: Mapping[str, np.ndarray] = field(default_factory=dict)
    program: Program | None = None
    config: str | None = None
    data: str | None = None
    floats: Callable[[np.ndarray], np.ndarray] | None = None
    float_maps: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None
    runtime: Runtime | None = None
    classifiers: Mapping[str, Callable[[np.ndarray], np.ndarray | None]] = field(default_factory=dict)
    has_source: bool = True
    notes: tuple[str, ...] = ()


def read(request: ModelRequest) -> Model:
    """The integer network of a model of any kind.

    Raises
    ------
    ValueError
        When there is no such model, it can't run on the accelerator, or an option is given that isn't for its kind.
    """
    request.check()
    name = request.model
    if request.is_module:
        return _from_module(request)
    if name.endswith(".onnx"):
        return _from_onnx(request)
    if name.endswith(".pt2"):
        return _from_program(request)
    if name.endswith(".tflite"):
        return _from_tflite(request)
    return replace(_ours(request), has_source=False)


def _from_tflite(request: ModelRequest) -> Model:
    """A TensorFlow Lite file, which LiteRT's reference kernels run as well."""
    found, content = (
        tflite_reader.imported(request.model, output=request.output_tensor),
        Path(request.model).read_bytes(),
    )

    def compare(codes: np.ndarray, progress: Progress | None) -> Agreement:
        return litert(content, found, codes, progress)

    runtime: Runtime | None = Runtime(name="LiteRT, reference kernels", exact=True, compare=compare)
    notes = found.notes
    if find_spec("ai_edge_litert") is None:
        runtime = None
        notes += ("LiteRT isn't installed, so nothing is compared with it: pip install ai-edge-litert",)
    return Model(
        network=found.network,
        origin=f"TensorFlow Lite file {request.model}",
        runtime=runtime,
        notes=notes,
    )


def _from_onnx(request: ModelRequest) -> Model:
    """An ONNX file: in float, calibrated; or quantized."""
    try:
        module = onnx_reader.read(request.model, request.shape)
    except OnnxRefusalError as error:
        raise _all_reasons(request, error) from error
    found = _integers(request, module)
    notes = (*module.program.notes, *found.notes)
    if find_spec("onnxruntime") is None:
        notes += ("ONNX Runtime isn't installed, so nothing is compared with it: pip install onnxruntime",)
    return replace(found, notes=notes)


def _integers(request: ModelRequest, module: OnnxModule) -> Model:
    """The network of an ONNX file's module, which ONNX Runtime runs as well where it is installed."""
    origin, name = f"ONNX file {request.model}", Path(request.model).stem
    has_runtime = find_spec("onnxruntime") is not None
    if not module.program.quantized:
        model = _calibrated(request, module, origin, name, module.program.shape)
        classes = _onnx_classes(module, model.network, request.model)
        return replace(model, classifiers={_ONNX_RUNTIME: classes}) if has_runtime else model
    request.check_int8()
    found = import_quantized(module, module.program.shape, name=name)
    model = _of_quantized(found, origin)
    return replace(model, runtime=_onnx_runtime(request.model, module, found.source, model)) if has_runtime else model


def _all_reasons(request: ModelRequest, refusal: OnnxRefusalError) -> ValueError:
    """What refuses an ONNX file, with what is found when the rest of it is lowered."""
    try:
        _integers(request, refusal.module)
    except ValueError as error:
        if all(reason in str(error) for reason in refusal.reasons):
            return ValueError(f"{request.model}: {error}")
    return refusal


def _onnx_runtime(path: str, module: OnnxModule, source: QuantizedSource, model: Model) -> Runtime:
    """How ONNX Runtime computes a quantized file."""

    def compare(codes: np.ndarray, progress: Progress | None) -> Agreement:
        return onnx_runtime(path, module, source, codes, progress)

    return Runtime(name=_ONNX_RUNTIME, exact=False, compare=compare, otherwise=model.runtime)


def _onnx_classes(module: OnnxModule, network: Network, path: str) -> Callable[[np.ndarray], np.ndarray | None]:
    """Classes that ONNX Runtime finds, of the values that codes stand for."""

    def classes(codes: np.ndarray) -> np.ndarray | None:
        outputs = runtime_outputs(path, feed(module.program, onnx_images(network, codes)))
        return named(outputs[-1].reshape(len(codes), -1))

    return classes


def _from_program(request: ModelRequest) -> Model:
    """A file of ``torch.export.save``: in float, calibrated; or quantized, perhaps but for a few maps."""
    program, origin, name = read_program(request.model), f"PyTorch program {request.model}", Path(request.model).stem
    targets = {str(node.target).partition(".")[0] for node in program.graph.nodes}
    if "quantized_decomposed" not in targets:
        return _calibrated(request, program, origin, name, images_taken(program)[1])
    replace(request, calibrate=None).check_int8()
    if request.calibrate is not None:
        images, told = _calibration(request, images_taken(program)[1], None)
        model = _of_quantized(import_on_images(program, images, name=name), origin)
        return replace(model, notes=(*told, *model.notes))
    try:
        return _of_quantized(import_quantized(program, name=name), origin)
    except UnroundedError as error:
        raise ValueError(f"{error}; --calibrate takes images that set the ranges of such maps instead") from error


def _of_quantized(found: QuantizedImport, origin: str) -> Model:
    """A program with quantize and dequantize operators."""
    rounding = "the source rounds otherwise than the accelerator: a layer's codes may differ by one; verify counts them"
    return Model(
        network=found.network,
        origin=origin,
        runtime=_program_runtime(found.source),
        notes=(rounding, *found.notes, *_single(found.source)),
    )


def _single(source: QuantizedSource) -> tuple[str, ...]:
    """What is to be said of outputs of one value."""
    made = {node.name: node.meta["val"] for node in source.program.graph.nodes if "val" in node.meta}
    single = [name for name, (node, _) in source.outputs.items() if made[node].shape[1:].numel() == 1]
    return tuple(f"{name} is {ONE_VALUE}" for name in single)


def _program_runtime(source: QuantizedSource) -> Runtime:
    """How PyTorch computes a program with quantize and dequantize operators."""

    def compare(codes: np.ndarray, progress: Progress | None) -> Agreement:
        return program_agreement(source, codes, progress)

    return Runtime(name="PyTorch, quantized program", exact=False, compare=compare)


def _ours(request: ModelRequest) -> Model:
    """A file of ours, or a network of the zoo."""
    name = request.model
    kind = kind_of(Path(name))
    if kind == "program":
        found = program(Path(name))
        data = found.network.name.removesuffix(checkpoint.DENSE)
        known = data if data in NAMES else None
        return Model(network=found.network, origin=f"program {name}", program=found, data=known)
    if kind == "network of the zoo":
        entry = zoo.entry(name)
        compressed = zoo.load(entry)
        network, activity = zoo.part(entry, compressed)
        return Model(network=network, origin=name, activity=activity, config=entry.config, data=compressed.data)
    if kind == "network":
        held = network_file.load(Path(name))
        return Model(network=held.network, origin=held.origin, activity=held.activity)
    expect(Path(name), "compressed")
    compressed = checkpoint.load_compressed(Path(name))
    return Model(
        network=compressed.network,
        origin=f"compressed network {name}",
        activity=compressed.activity,
        data=compressed.data,
    )


def _from_module(request: ModelRequest) -> Model:
    """A float module that a function of the user's makes, calibrated."""
    module = of_request(request.model, request.weights)
    return _calibrated(request, module, f"module {request.model}", request.model.rpartition(":")[2])


def _calibrated(
    request: ModelRequest,
    source: nn.Module | ExportedProgram,
    origin: str,
    name: str,
    shape: tuple[int, int, int] | None = None,
) -> Model:
    """A float module or program as integers; ``shape`` is that of its images, where it says so itself."""
    taken = partial(computes, source) if isinstance(source, nn.Module) else None
    images, told = _calibration(request, shape or request.shape, taken)
    found = calibrate(source, images, name, ranges=request.ranges)
    signal = ", ".join(f"{ratio:.1f}" for ratio in found.ratios)
    ratios = f"as int8 the outputs are {signal} dB above their noise, on images that calibrated"
    notes = (*told, ratios, *_single(found.source))
    runtime = _program_runtime(found.source)
    floats = _floats(source, found.network.input.shape)
    return Model(
        network=found.network,
        origin=origin,
        floats=floats,
        float_maps=found.float_maps,
        runtime=runtime,
        notes=notes,
    )


def _floats(source: nn.Module | ExportedProgram, shape: tuple[int, int, int]) -> Callable[[np.ndarray], np.ndarray]:
    """The outputs of a float module or program; images are filled up to as many as a program takes."""
    module, count = source, None
    if isinstance(module, ExportedProgram):
        (fixed, *layout), dtype, module = images_taken(module)[0], image_taken(module).dtype, module.module()
        count = fixed
    else:
        layout = list(layout_of(module, shape))
        dtype = next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float32)

    def floats(values: np.ndarray) -> np.ndarray:
        images = to_torch(np.ascontiguousarray(values, dtype=np.float32)).reshape(-1, *layout).to(dtype)
        size, found = count or len(images), []
        with torch.inference_mode(), exact():
            for start in range(0, len(images), size):
                part = images[start : start + size]
                answer = outputs_in(module(torch.cat([part, part[-1:].expand(size - len(part), *layout)])))[-1]
                found.append(answer[: len(part)].float().flatten(1))
        return np.asarray(torch.cat(found))

    return floats


def _calibration(
    request: ModelRequest, shape: tuple[int, int, int] | None, taken: samples.Computes | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Float images that set ranges, and what is to be said of them."""
    if request.calibrate is None:
        require(shape, "--shape HEIGHT,WIDTH,CHANNELS must be given for a float module without --calibrate images")
        assert shape is not None
        check_image(shape)
        images = np.random.default_rng(request.seed).random((64, *shape), dtype=np.float32)
        images = request.preprocessing(images)
        return images, ("calibrated on 64 random images: accuracy means nothing (--calibrate takes images)",)
    found = samples.read(
        request.calibrate,
        shape,
        count=_CALIBRATION,
        seed=request.seed,
        computes=taken,
        root=request.root,
        preprocessing=request.preprocessing,
    )
    require(
        found.images.dtype != np.int8,
        f"{found.origin}: images that calibrate must be floats or uint8 pixels, not int8 codes",
    )
    said = f"calibrated on {len(found)} images of {found.origin}"
    return found.images, (said, *([found.layout] if found.layout else []))
