"""SCALE-Sim (Samajdar et al. 2020, ISPASS): an 8x8 output-stationary systolic array, dense, no weights, no values."""

import configparser
import json
import sys
import time
from pathlib import Path

from scalesim.scale_sim import scalesim

_ARRAY = {
    "ArrayHeight": 8,
    "ArrayWidth": 8,
    "IfmapSramSzkB": 64,
    "FilterSramSzkB": 64,
    "OfmapSramSzkB": 64,
    "IfmapOffset": 0,
    "FilterOffset": 10_000_000,
    "OfmapOffset": 20_000_000,
    "Dataflow": "os",
    "ReadRequestBuffer": 32,
    "WriteRequestBuffer": 32,
}
_BANKS = {
    f"{operand}{key}": value
    for operand in ("Ifmap", "Filter")
    for key, value in {
        "CustomLayout": False,
        "SRAMBankBandwidth": 10,
        "SRAMBankNum": 10,
        "SRAMBankPort": 2,
    }.items()
}
#: Numbers in a row of the layout file, which is read although layouts are off.
_LAYOUT = 20


def _write_config(path: Path) -> None:
    parser = configparser.ConfigParser()
    parser.read_dict(
        {
            "general": {"run_name": "run"},
            "architecture_presets": _ARRAY,
            "layout": _BANKS,
            "sparsity": {"SparsitySupport": False},
            "run_presets": {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False},
        }
    )
    with path.open("w") as file:
        parser.write(file)


def main() -> None:
    layers = json.load(sys.stdin)
    topology, layout = ["name, size,"], ["name, order,"]
    for layer in layers:
        # A leading DP makes it depthwise: one channel after the other.
        name = f"DP{layer['name']}" if layer["depthwise"] else layer["name"]
        height, width = layer["padded"]
        rows, columns = layer["kernel"]
        sizes = [height, width, rows, columns, layer["inputs"], 1 if layer["depthwise"] else layer["outputs"]]
        topology.append(",".join(map(str, [name, *sizes, layer["stride"][0]])) + ",")
        layout.append(",".join([name, *["1"] * _LAYOUT]) + ",")
    Path("topology.csv").write_text("\n".join(topology))
    Path("layout.csv").write_text("\n".join(layout))
    _write_config(Path("scale.cfg"))
    simulator = scalesim(
        save_disk_space=True, verbose=False, config="scale.cfg", topology="topology.csv", layout="layout.csv"
    )
    begin = time.perf_counter()
    simulator.run_scale(top_path="out")
    seconds = time.perf_counter() - begin
    cycles = sum(layer.get_compute_report_items()[0] for layer in simulator.runner.single_layer_sim_object_list)
    Path(sys.argv[1]).write_text(json.dumps({"cycles": int(cycles), "seconds": seconds}))


main()
