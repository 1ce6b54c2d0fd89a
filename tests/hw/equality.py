"""Equality of the accelerator in plain Python (:mod:`tests.hw.machine`) and the golden model."""

import numpy as np

from hw.network.zero_points import storage_zero_points
from hw.program.program import Program
from models.integer import golden
from tests.hw.machine import Machine, map_words

__all__ = ["assert_equals_golden", "strips_of"]


def strips_of(program: Program) -> set[str]:
    """The tensors of which a program keeps strips only: the windows of their commands differ."""
    layers = program.decoded.layers
    windows: dict[str, list[list[dict[str, int]]]] = {}
    for command, layer in zip(program.commands, layers, strict=True):
        windows.setdefault(command.tensor, []).append([core.window for core in layer.cores])
    return {tensor for tensor, found in windows.items() if any(each != found[0] for each in found)}


def assert_equals_golden(program: Program, codes: np.ndarray) -> np.ndarray:
    """Every word of every layer and every decision of the images; returns the exits taken.

    Parameters
    ----------
    codes : int8 array (images, height, width, channels)
    """
    network, zero_points = program.network, storage_zero_points(program.network)
    between = strips_of(program)
    expected = golden.run(network, codes)
    machine = Machine(program.images, program.config)
    for number, image in enumerate(codes):
        outcome = machine.run(image)
        assert [ran.index for ran in outcome.layers] == list(range(len(outcome.layers)))
        made: dict[str, list[np.ndarray]] = {}
        for ran in outcome.layers:
            command = program.commands[ran.index]
            if command.partial:  # its only position goes nowhere
                continue
            wanted = map_words(expected.tensors[command.tensor][number].astype(np.int64) - zero_points[command.tensor])
            np.testing.assert_array_equal(ran.values, wanted[ran.numbers], err_msg=command.name)
            made.setdefault(command.tensor, []).append(ran.numbers)
        for tensor, numbers in made.items():
            words, found = map_words(expected.tensors[tensor][number]), np.sort(np.concatenate(numbers))
            if tensor in between:  # rows at the edges of strips are made twice, those that nobody needs never
                assert set(found.tolist()) <= set(range(len(words))), tensor
            else:
                np.testing.assert_array_equal(found, np.arange(len(words)), err_msg=tensor)
        assert (outcome.exit, outcome.label) == (expected.exit_index[number], expected.classes[number])
        assert outcome.margin == expected.margins[number, outcome.exit]
    return expected.exit_index
