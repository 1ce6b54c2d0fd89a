"""CIFAR-10 on FPGAs: what others have published of networks of this class beside what Offramp's recorded builds do."""

from typing import NamedTuple

from offramp.files.result_file import BASELINES, read_json
from offramp.measure.recorded import RecordedBuild, recorded_build
from offramp.report.documents.headline import age
from offramp.report.tables.result_tables import markdown_lines
from offramp.report.tables.units import points

__all__ = ["comparison_markdown"]

_RESNET8 = "image classification (ResNet-8)"


class _Row(NamedTuple):
    network: str
    machine: str
    device: str
    multipliers: str  #: DSP blocks
    clock_mhz: str
    accuracy: str
    rate: float


#: Of results submitted to MLPerf Tiny (github.com/mlcommons/tiny_results_v0.7, _v1.0 and _v1.1), and of an article.
_OTHERS = (
    _Row("official ResNet-8, int8", "fpgaConvNet, Vivado (v1.1, closed)", "ZC706", "525", "187", "≥ 85", 6789.6),
    _Row("official ResNet-8, int8", "fpgaConvNet, Vivado (v1.1, closed)", "ZedBoard", "211", "143", "≥ 85", 2431.4),
    _Row("official ResNet-8, int8", "fpgaConvNet, Vivado (v1.1, closed)", "Zybo", "78", "125", "≥ 85", 317.5),
    _Row("RN08", "hls4ml, Vivado (v1.0, open)", "Pynq-Z2", "-", "100", "83.5", 130.8),
    _Row("CNV, binary", "FINN, Vivado (v0.7, open)", "Pynq-Z2", "-", "100", "84.5", 661.5),
    _Row("ResNet-8, int8", "NN2FPGA, Vitis HLS (IEEE TCAD 44(5), 2025)", "Ultra96", "-", "-", "88.7", 12971.0),
)


def _ours(network: str, build: RecordedBuild, accuracy: float, cycles: float) -> _Row:
    """A network on a config as it was routed: the core alone at its highest clock."""
    return _Row(
        network=network,
        machine=f"Offramp, `{build.config}`, Yosys and nextpnr{age(build)}",
        device=f"ECP5-{build.device}",
        multipliers=str(build.report["multipliers"]["used"]),
        clock_mhz=f"{build.fmax_mhz:.1f}",
        accuracy=points(accuracy),
        rate=1e6 * build.fmax_mhz / cycles,
    )


def comparison_markdown() -> str:
    """The table, the fastest first."""
    official = read_json(BASELINES / "mlperf-tiny.json")["networks"][_RESNET8]
    ran = [
        (f"`zoo:{name}`, int8", found["config"], found["accuracy_golden"], found["cycles"]["mean"])
        for name, found in read_json(BASELINES / "routed.json")["networks"].items()
    ] + [
        ("official ResNet-8, int8", config, official["accuracy_golden"], taken["cycles"]["mean"])
        for config, taken in official["configs"].items()
    ]
    ours = [
        _ours(network, build, accuracy, cycles)
        for network, config, accuracy, cycles in ran
        if (build := recorded_build(config)) is not None
    ]
    head = ["network", "machine", "device", "DSP blocks", "clock, MHz", "accuracy, %", "inferences/s"]
    table = [[*row[:-1], f"{row.rate:,.0f}"] for row in sorted([*_OTHERS, *ours], key=lambda row: -row.rate)]
    return "\n".join(markdown_lines([head, *table], ["---", "---", "---", "--:", "--:", "--:", "--:"]))
