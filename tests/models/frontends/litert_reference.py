"""LiteRT's reference kernels, and files of the data folder."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from models.datasets.sources import cifar10_batch


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
    """Every int8 tensor, by number, that the reference kernels compute for a batch of images."""
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    image = interpreter.get_input_details()[0]
    interpreter.allocate_tensors()
    found: dict[int, list[np.ndarray]] = {}
    for codes in images:
        interpreter.set_tensor(image["index"], codes[np.newaxis])
        interpreter.invoke()
        for tensor in interpreter.get_tensor_details():
            if tensor["dtype"] == np.int8 and tensor["shape"].size and tensor["shape"][0] == 1:
                found.setdefault(tensor["index"], []).append(interpreter.get_tensor(tensor["index"]))
    return {number: np.concatenate(values) for number, values in found.items()}
