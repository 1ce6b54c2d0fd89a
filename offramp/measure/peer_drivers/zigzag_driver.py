"""ZigZag (Mei et al. 2021, IEEE TC): its own example of a TPU-like 32x32 array, dense, no weights, no values."""

import json
import sys
import time
from pathlib import Path

import zigzag
from zigzag.api import get_hardware_performance_zigzag


def main() -> None:
    inputs = Path(zigzag.__file__).parent / "inputs"
    workload = []
    for number, layer in enumerate(json.load(sys.stdin)):
        channels, filters = layer["inputs"], layer["outputs"]
        groups = channels if layer["depthwise"] else 1
        rows, columns = layer["stride"]
        sizes = {"B": 1, "K": filters // groups, "G": groups, "C": channels // groups}
        sizes |= dict(zip(("OY", "OX"), layer["positions"], strict=True))
        sizes |= dict(zip(("FY", "FX"), layer["kernel"], strict=True))
        workload.append(
            {
                "id": number,
                "name": layer["name"],
                "operator_type": "Conv",
                "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
                "dimension_relations": [f"ix={columns}*ox+1*fx", f"iy={rows}*oy+1*fy"],
                "loop_dims": list(sizes),
                "loop_sizes": list(sizes.values()),
                "operand_precision": {"O": 16, "O_final": 8, "W": 8, "I": 8},
                "operand_source": {"I": number, "W": number},
            }
        )
    begin = time.perf_counter()
    found = get_hardware_performance_zigzag(
        workload,
        str(inputs / "hardware" / "tpu_like.yaml"),
        str(inputs / "mapping" / "tpu_like.yaml"),
        dump_folder="out",
        pickle_filename="out/results.pickle",
        loma_show_progress_bar=False,
    )
    seconds = time.perf_counter() - begin
    Path(sys.argv[1]).write_text(json.dumps({"cycles": int(found[1]), "seconds": seconds}))


main()
