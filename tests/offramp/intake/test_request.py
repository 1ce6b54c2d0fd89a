"""What a user says of a model is refused by the model's name, before anything is read."""

from pathlib import Path

import pytest

from offramp.intake.preprocessing import Preprocessing
from offramp.intake.request import ModelRequest

FLOAT = ("net.onnx", "net.pt2")
INT8 = ("net.tflite", "net.off", "zoo:digits")
MODULE = "nets/net.py:make"


@pytest.mark.parametrize(("model", "is_module"), [(MODULE, True), ("net.py", False), ("C:/net.onnx", False)])
def test_a_module_is_a_function_of_a_python_file(model, is_module):
    assert ModelRequest(model=model).is_module == is_module


@pytest.mark.parametrize("model", [MODULE, *FLOAT, *INT8])
def test_a_model_alone_is_a_request(model):
    ModelRequest(model=model).check()


def test_a_request_is_typed_with_all_that_differs_from_the_usual():
    assert ModelRequest(model="net.off").typed(data=None) == "net.off"
    how = Preprocessing(scale=255.0, mean=(1.0, 2.0), deviation=(0.5,))
    named = {"weights": Path("w.pt"), "calibrate": "my train.npz", "ranges": "mse", "output_tensor": "out"}
    request = ModelRequest(model=MODULE, shape=(8, 9, 1), preprocessing=how, root=Path("sets"), **named)
    assert request.typed(config="base-85f", data="test.npz") == (
        "nets/net.py:make --output-tensor out --weights w.pt --calibrate 'my train.npz' --ranges mse --shape 8,9,1 "
        "--scale 255.0 --mean 1.0,2.0 --deviation 0.5 --data-dir sets --config base-85f --data test.npz"
    )


@pytest.mark.parametrize(
    ("option", "value", "models"),
    [
        ("output_tensor", "logits", ("net.tflite",)),
        ("weights", Path("w.safetensors"), (MODULE,)),
        ("calibrate", "digits", (MODULE, *FLOAT)),
        ("ranges", "mse", (MODULE, *FLOAT)),
    ],
)
def test_options_go_with_their_models_alone(option, value, models):
    for model in (MODULE, *FLOAT, *INT8):
        request = ModelRequest(model=model, **{option: value})
        if model in models:
            request.check()
            continue
        with pytest.raises(ValueError, match=f"^--{option.replace('_', '-')} must go with .*{model}"):
            request.check()


def test_ranges_that_there_are_not_are_refused_first():
    with pytest.raises(ValueError, match="ranges must be one of minmax, percentile, mse, not 'most'"):
        ModelRequest(model="net.off", weights=Path("w.pt"), ranges="most").check()


def test_a_float_format_may_hold_a_model_that_is_int8():
    """Which is known only when it has been read: then the options of float models are refused."""
    ModelRequest(model="net.onnx").check_int8()
    with pytest.raises(ValueError, match=r"^--calibrate must go with a float model: net.onnx is int8 already$"):
        ModelRequest(model="net.onnx", calibrate="digits").check_int8()
    with pytest.raises(ValueError, match=r"^--ranges must go with a float model: net.onnx is int8 already$"):
        ModelRequest(model="net.onnx", ranges="percentile").check_int8()
