"""A demo's result without the demo: real measurements, and a build and a verification as they would report."""

from dataclasses import asdict

from fpga.throughput import throughput
from offramp import stages
from offramp.files.result_file import provenance
from offramp.measure.inputs import ATTACKS
from offramp.measure.simulation import measured

BUILD = {
    "board": "ulx3s-25f",
    "device": "25k",
    "package": "CABGA381",
    "speed": 6,
    "clock_mhz": 50.0,
    "baud": 1_000_000,
    "fmax_mhz": 80.0,
    "timing_met": True,
    "logic": {"used": 9000, "available": 24288},
    "flip_flops": {"used": 6000, "available": 24288},
    "block_rams": {"used": 50, "available": 56},
    "multipliers": {"used": 14, "available": 28},
    "critical_path": "  1.00 ns  a<b & c",
    "seed": 1,
    "seconds": 100.0,
    "cached": False,
}
#: Of a program whose config isn't the one that was built.
NOT_BUILT = {"board": None, "core_images_per_second_at_fmax": None}
VERIFY = {
    "values_equal": True,
    "cycles_equal": True,
    "layers": 20,
    "images": 2,
    "early": 1,
    "cycles": 7_456,
    "differing": [],
    "mismatches": [],
    "per_image": {
        "program": [0, 0],
        "image": [0, 1],
        "class": [3, 8],
        "exit": [0, 1],
        "margin": [5, 7],
        "cycles": [3_000, 4_456],
        "equal": {"RTL": [True, True]},
    },
    "decisions": {"forced": 0, "passed": 0, "differs": 0, "out_of_range": 0, "overrun": 0},
    "back_to_back": [3_712.5],
    "simulator": "verilator",
    "netlist": None,
    "seed": 0,
    "seconds": 12.25,
}


def result_of(small, recipe):
    """What :func:`offramp.demo.run` would deliver for 20 images."""
    inputs, part = {}, small.source.test.take(20)
    for name, kind in ATTACKS.items():
        _, found = measured(small.program, part.images, part.labels, kind, eps=0.1, seed=0)
        inputs[name] = found.to_dict()
    _, found = measured(small.dense, part.images, part.labels, ATTACKS["clean"], eps=0.1, seed=0)
    inputs["unpruned"] = found.to_dict()
    for name, values in inputs.items():
        values.update({"description": f"{name} images"} | NOT_BUILT)
        if name != "unpruned":
            board = throughput((8, 8, 1), values["cycles"]["mean"], clock_mhz=50.0, baud=1_000_000)
            values.update({"board": board.to_dict(), "core_images_per_second_at_fmax": 80e6 / values["cycles"]["mean"]})
    return {
        **provenance("demo", 0),
        "data": "digits",
        "recipe": asdict(recipe),
        "config": {"name": "tiny", **asdict(small.program.config)},
        "network": {"weights": 100, "nonzero_weights": 25, "layers": []},
        "metrics": small.network.metrics,
        "curve": small.network.curve,
        "golden": stages.evaluated(small.program, small.source.test.images, small.source.test.labels),
        "inputs": inputs,
        "robustness": {"eps": 0.1, "images": 20, "clean": 0.9, "easy": 0.5, "adaptive": 0.1},
        "verify": dict(VERIFY),
        "build": dict(BUILD),
        "seconds": {"train": 1.0, "total": 2.0},
    }
