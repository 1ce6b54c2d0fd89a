from dataclasses import replace

import pytest

from models.frontends.runtimes import UnableError
from offramp.intake.model import Runtime, read
from offramp.intake.request import ModelRequest
from offramp.intake.source_check import check_source
from offramp.report.tables.model_tables import checked
from tests.offramp.intake.models import onnx_file, tflite_file


def test_a_file_is_compared_with_its_runtime(tmp_path):
    found = check_source(read(ModelRequest(model=str(tflite_file(tmp_path)))), 0)
    assert (found["against"], found["images"], found["equal"], found["reason"]) == (
        *("LiteRT, reference kernels", 8, True, None),
    )
    assert checked(found) == "against LiteRT, reference kernels, 2 tensors of 8 random images: all equal"
    found = check_source(read(ModelRequest(model=str(onnx_file(tmp_path)))), 0)
    assert found["against"] == "ONNX Runtime"
    assert found["equal"] or "% of the values differ, codes by at most 1" in checked(found)


def test_what_must_be_equal_and_is_not_is_refused(tmp_path):
    model = read(ModelRequest(model=str(tflite_file(tmp_path))))

    def compare(codes, progress):
        return spoiled(model.runtime.compare(codes, progress))

    found = replace(model, runtime=Runtime(name="a runtime", exact=True, compare=compare))
    with pytest.raises(ValueError, match=r"conv2d_0 must be as a runtime computes it, but 3\.00% of the values differ"):
        check_source(found, 0)


def spoiled(agreement):
    return replace(agreement, same=~agreement.same, share=0.03, first="conv2d_0")


def test_without_a_runtime_the_reason_is_said(tmp_path):
    def cannot(codes, progress=None):
        raise UnableError("net: the runtime can't run it")

    model = read(ModelRequest(model=str(tflite_file(tmp_path))))
    unable = replace(model, runtime=Runtime(name="source", exact=True, compare=cannot))
    for each, reason in (
        (unable, "net: the runtime can't run it"),
        (replace(model, runtime=None), "the runtime of its source isn't installed"),
        (replace(model, runtime=None, has_source=False), "the file holds no source"),
    ):
        assert checked(check_source(each, 0)) == f"not against a source: {reason}"
