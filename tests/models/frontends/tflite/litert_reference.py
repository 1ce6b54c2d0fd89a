"""LiteRT's reference kernels, and files of the data folder."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from models.datasets.sources import cifar10_batch
from models.frontends.tflite.edges import FileInput
from models.frontends.tflite.reader import Imported, imported
from models.integer import golden


def data_file(root: Path, *parts: str) -> Path:
    """A file of a part of the data folder; skips the test where the part is absent, and fails it without the file."""
    if not (root / parts[0]).is_dir():
        pytest.skip(f"needs {root / parts[0]}")
    path = root.joinpath(*parts)
    assert path.is_file(), f"{root / parts[0]} is there, but not {path}"
    return path


def cifar10_test(root: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test images as (N, 32, 32, 3) uint8, and their labels."""
    images, labels = cifar10_batch(data_file(root, "cifar-10-batches-py", "test_batch").read_bytes())
    return images[:count], labels[:count]


def litert(model: bytes, images: np.ndarray) -> dict[int, np.ndarray]:
    """Every int8 tensor, by number, and uint8 less 128, that the reference kernels compute for a batch of images.

    The first dimension is that of the images; a tensor's own stands behind it where it isn't 1.
    """
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    image = interpreter.get_input_details()[0]
    interpreter.allocate_tensors()
    found: dict[int, list[np.ndarray]] = {}
    for values in images:
        interpreter.set_tensor(image["index"], values[np.newaxis])
        interpreter.invoke()
        for tensor in interpreter.get_tensor_details():
            if tensor["dtype"] in (np.int8, np.uint8) and tensor["shape"].size:
                codes = interpreter.get_tensor(tensor["index"])
                if codes.dtype == np.uint8:
                    codes = (codes.astype(np.int16) - 128).astype(np.int8)
                found.setdefault(tensor["index"], []).append(codes[0] if len(codes) == 1 else codes)
    return {number: np.stack(values) for number, values in found.items()}


def values_for(source: FileInput, count: int, seed: int) -> np.ndarray:
    """Random values as a file takes them; of real ones some far outside, and some between two codes."""
    rng, shape = np.random.default_rng(seed), (count, *source.shape)
    if source.dtype != "FLOAT32":
        low, high = (0, 256) if source.dtype == "UINT8" else (-128, 128)
        return rng.integers(low, high, shape).astype(source.dtype.lower())
    steps = rng.choice([rng.normal(0, 200, shape), rng.integers(-300, 300, shape) + 0.5], axis=0)
    return ((steps - source.zero_point) * source.scale).astype(np.float32)


def assert_equals_litert(folder: Path, model: bytes, count: int = 9, seed: int = 0, **options: str) -> Imported:
    """Every tensor that the network says it has of the file, and every output, for random values."""
    path = folder / "net.tflite"
    path.write_bytes(model)
    found = imported(path, **options)
    values = values_for(found.source, count, seed)
    result, reference = golden.run(found.network, found.source.codes(values)), litert(model, values)
    for layer, number in found.tensors.items():
        codes = result.tensors[layer]
        np.testing.assert_array_equal(codes, reference[number].reshape(codes.shape), err_msg=layer, strict=True)
    for output, logits in zip(found.outputs, result.logits, strict=True):
        expected = reference[output.number]
        codes = output.codes(logits)
        np.testing.assert_array_equal(codes, expected.reshape(codes.shape), err_msg=output.name, strict=True)
        # Logits that are codes have the ties of the file.
        if output.accumulators is None and codes[0].size > 1:
            np.testing.assert_array_equal(logits.argmax(axis=1), expected.reshape(count, -1).argmax(axis=1))
    return found
