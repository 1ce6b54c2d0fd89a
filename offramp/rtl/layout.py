"""A layout for GTKWave: the signals of the accelerator that one looks at first, in groups by unit."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hw.rtl.verilog import TOP

__all__ = ["groups", "layout"]

#: GTKWave's flags of a trace by how its values are shown, names of values where the file has some; all right-justified.
_FLAGS = {"bits": "28", "hex": "22", "unsigned": "24", "signed": "420", "names": "20"}
#: Those of a group's first line and last, and of one that is closed.
_GROUP = {False: ("800200", "1000200"), True: ("c00200", "1401200")}


class _Group(NamedTuple):
    """Signals that are shown of every scope of the top module that the pattern matches, and how."""

    scope: str
    title: str
    closed: bool
    signals: dict[str, str]


_GROUPS = (
    _Group("", "host", False, {
        "clk": "bits",
        "i__valid": "bits", "i__ready": "bits", "i__payload": "hex",
        "o__valid": "bits", "o__ready": "bits", "o__payload": "hex",
        "host_port.fsm_state": "names", "host_port.header.command": "names",
    }),
    _Group("", "run", False, {
        "sequencer.fsm_state": "names", "sequencer.operation.op": "names", "sequencer.operation.index": "unsigned",
        "sequencer.cycles": "unsigned", "sequencer.control__start": "bits", "sequencer.barrier": "bits",
        "exit_unit.result__label": "unsigned", "exit_unit.result__margin": "unsigned",
    }),
    _Group(r"core_\d+", "{}", False, {
        "state__done": "bits", "state__products": "unsigned", "state__stalled": "bits",
        "dispatcher.state": "names", "dispatcher.word_address": "unsigned",
        "dispatcher.lookup__pushed": "bits",
        "lanes.layer__done": "bits", "packer.o__valid": "bits", "packer.o__payload.index": "unsigned",
    }),
    _Group(r"core_\d+\.pe_\d+", "{}", True, {
        "dispatcher__blocked": "bits", "dispatcher__wanted": "bits",
        "job.told.value": "signed", "job.told.dump": "bits", "product": "bits",
        "accumulators.i__valid": "bits", "accumulators.i__payload.value": "signed",
        "accumulators.i__payload.weight": "signed", "accumulators.i__payload.dump": "bits",
        "accumulators.write__en": "bits", "accumulators.write__addr": "unsigned",
        "accumulators.write__data": "signed", "o__valid": "bits", "o__payload": "signed",
    }),
    _Group(r"core_\d+\.lanes\.lane_\d+", "{}", True, {
        "accumulator": "signed", "scaled": "signed", "total": "signed", "own_code": "signed",
        "sum_code": "signed",
    }),
)  # fmt: skip


def groups(signals: Mapping[str, str]) -> Iterator[tuple[str, bool, dict[str, str]]]:
    """Each group: its title, whether it is closed, and how each of its signals is shown.

    Parameters
    ----------
    signals : mapping
        As :func:`offramp.rtl.fst.write_fst` returns them.
    """
    scopes = {name.rpartition(".")[0].removeprefix(TOP).removeprefix(".") for name in signals}
    for group in _GROUPS:
        for scope in sorted((each for each in scopes if re.fullmatch(group.scope, each)), key=_numbers):
            path = ".".join(filter(None, [TOP, scope]))
            shown = {f"{path}.{name}": form for name, form in group.signals.items()}
            yield group.title.format(scope), group.closed, shown


def layout(fst: Path, signals: Mapping[str, str]) -> str:
    """Text of a layout for an FST file; signals that this accelerator hasn't are left out.

    Parameters
    ----------
    fst : Path
        An absolute one.
    signals : mapping
        As :func:`offramp.rtl.fst.write_fst` returns them.
    """
    lines = [f'[dumpfile] "{fst}"', f'[savefile] "{fst.with_suffix(".gtkw")}"', "[sst_expanded] 1"]
    for title, closed, shown in groups(signals):
        begin, end = _GROUP[closed]
        lines += [f"@{begin}", f"-{title}"]
        for name, form in shown.items():
            if name in signals:
                lines += [f"@{_FLAGS[form]}", f"{name}{signals[name]}"]
        lines += [f"@{end}", f"-{title}"]
    return "\n".join(lines) + "\n"


def _numbers(scope: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", scope)]
