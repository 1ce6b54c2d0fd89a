"""Random programs of PT2E's quantizers, saved and read again: what they compute is followed, or refused as it is said.

More of them: ``RANDOM_PROGRAMS=200 pytest -m slow tests/models/frontends/quantized/test_random_programs.py``.
"""

import os
import re

import numpy as np
import pytest
import torch

from hw.compiler.lower import lower
from models.frontends.pytorch.functional import images_taken
from models.frontends.quantized.float_maps import import_on_images
from models.frontends.quantized.program_file import read_program
from models.frontends.quantized.reader import UnroundedError, import_quantized
from tests.models.frontends.quantized.quantized_programs import images
from tests.models.frontends.quantized.random_programs import random_program

#: What a quantizer may leave in float that can't be followed, whatever the seed: Inductor's leave convolutions of one
#: dimension without a ReLU as they are.
REFUSED = re.compile(r"[\w.]+: weights must be dequantized from|the image must be quantized before")
#: Of the largest output: how far one may be from the program's, whose maps are of 8 bits and less.
FAR = 0.12

SEVERAL = range(7, 7 + int(os.environ.get("RANDOM_PROGRAMS", "30")))


def followed(program, seed):
    """What is read of a program; where it leaves maps in float, on images."""
    try:
        return import_quantized(program)
    except UnroundedError:
        _, shape = images_taken(program)
        return import_on_images(program, images(*shape, seed=seed))


@pytest.mark.parametrize("seeds", [range(7), pytest.param(SEVERAL, marks=pytest.mark.slow)], ids=["few", "several"])
def test_random_programs(seeds, tmp_path):
    """Reading compares each layer with the program; here the outputs are, from the same images on."""
    refused = []
    for seed in seeds:
        program, quantizer = random_program(seed)
        print(f"seed {seed}: {quantizer}")
        torch.export.save(program, tmp_path / "net.pt2")
        try:
            found = followed(read_program(tmp_path / "net.pt2"), seed)
        except ValueError as error:
            refused.append(f"seed {seed}: {error}")
            continue
        lower(found.network)
        compared = found.source.compared(images(*found.network.input.shape, count=8))
        made, expected = compared[found.network.exits[-1].logits]
        assert np.abs(made - expected).max() <= 1 + FAR * np.abs(expected).max(), seed
    reasons = [reason for each in refused for reason in each.partition(": ")[2].split("; ")]
    assert [reason for reason in reasons if not REFUSED.match(reason)] == []
    assert len(refused) <= len(seeds) / 3, refused
