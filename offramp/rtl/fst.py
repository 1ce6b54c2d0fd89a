"""Waveforms as FST, of what a simulator has written as VCD: with enumerations, and cut to windows of time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from offramp.rtl.readable import Enumeration

__all__ = ["write_fst"]


def write_fst(
    vcd: Path,
    fst: Path,
    enumerations: Mapping[str, Mapping[str, Enumeration]],
    windows: Sequence[tuple[int, int]] | None = None,
) -> dict[str, str]:
    """Write a VCD file's waveform as FST; signals whose names begin with an underscore are left out.

    Parameters
    ----------
    enumerations : mapping
        As :attr:`offramp.rtl.readable.Readable.enumerations`.
    windows : sequence of (first, last), optional
        What is recorded, in the file's unit of time, in order, both times with it; by default everything. Times stay
        what they are.

    Returns
    -------
    dict of str to str
        The signals by their whole names, scopes first with dots between, with their range: ``[7:0]``, or nothing.

    Raises
    ------
    OSError
        When the file can't be written.
    """
    from pylibfst import lib

    with vcd.open("rb") as source:
        context = lib.fstWriterCreate(os.fsencode(fst), 1)
        if not context:
            raise OSError(f"{fst}: cannot be written")
        try:
            signals, handles = _declare(context, source, enumerations)
            _record(context, source, handles, windows)
        finally:
            lib.fstWriterClose(context)
    return signals


def _definitions(source: BinaryIO) -> Iterator[list[str]]:
    """Each definition of a VCD file, in words."""
    words: list[str] = []
    for line in source:
        for word in line.decode().split():
            if word != "$end":
                words.append(word)
                continue
            yield words
            if words[0] == "$enddefinitions":
                return
            words = []


def _declare(
    context: Any, source: BinaryIO, enumerations: Mapping[str, Mapping[str, Enumeration]]
) -> tuple[dict[str, str], dict[bytes, tuple[int, int]]]:
    """Declare a VCD file's signals; returns them, and handle and width by the file's codes."""
    from pylibfst import lib

    signals: dict[str, str] = {}
    handles: dict[bytes, tuple[int, int]] = {}
    tables: dict[str, int] = {}
    scope: list[str] = []
    for kind, *words in _definitions(source):
        if kind == "$timescale":
            lib.fstWriterSetTimescaleFromString(context, "".join(words).encode())
        elif kind == "$scope":
            scope.append(words[1])
            lib.fstWriterSetScope(context, lib.FST_ST_VCD_MODULE, words[1].encode(), b"")
        elif kind == "$upscope":
            scope.pop()
            lib.fstWriterSetUpscope(context)
        elif kind == "$var" and not (name := words[3].removeprefix("\\")).startswith("_"):  # Icarus keeps Verilog's \
            _, width, code, _, *bits = words
            path, bit_range, length = ".".join(scope), "".join(bits), int(width)
            if found := enumerations.get(path, {}).get(name):
                lib.fstWriterEmitEnumTableRef(context, _table(context, tables, found))
            # Signals of one code always have the same value.
            known, _ = handles.get(code.encode(), (0, 0))
            handle = lib.fstWriterCreateVar(
                context, lib.FST_VT_VCD_WIRE, lib.FST_VD_IMPLICIT, length, f"{name} {bit_range}".strip().encode(), known
            )
            handles[code.encode()] = (handle, length)
            signals[f"{path}.{name}"] = bit_range
    return signals, handles


def _table(context: Any, tables: dict[str, int], enumeration: Enumeration) -> int:
    """The file's table of an enumeration."""
    from pylibfst import ffi, lib

    key = repr(enumeration)
    if key not in tables:
        names = [ffi.new("char[]", name.encode()) for name in enumeration.values.values()]
        bits = [ffi.new("char[]", value.encode()) for value in enumeration.values]
        tables[key] = lib.fstWriterCreateEnumTable(
            context,
            enumeration.name.encode(),
            len(names),
            len(next(iter(enumeration.values))),
            ffi.new("const char *[]", names),
            ffi.new("const char *[]", bits),
        )
    return tables[key]


def _record(
    context: Any, source: BinaryIO, handles: dict[bytes, tuple[int, int]], windows: Sequence[tuple[int, int]] | None
) -> None:
    """Write the changes of a VCD file; those outside the windows count when the next one begins."""
    from pylibfst import lib

    emit = lib.fstWriterEmitValueChange
    following = list(windows or [])[::-1]
    before: dict[bytes, bytes] = {}
    inside = windows is None
    for line in source:
        if line[-1:] != b"\n":  # cut: the simulator was
            break
        if line[:1] == b"#":
            time = int(line[1:])
            if inside and windows is not None and time > following[-1][1]:
                following.pop()
                inside = False
                lib.fstWriterEmitDumpActive(context, 0)
            while following and time > following[-1][1]:
                following.pop()
            starts = not inside and following and following[-1][0] <= time
            if starts or inside:
                lib.fstWriterEmitTimeChange(context, time)
            if starts:
                inside = True
                lib.fstWriterEmitDumpActive(context, 1)
                for code, value in before.items():
                    handle, width = handles[code]
                    emit(context, handle, _bits(value, width))
                before.clear()
            continue
        if line[:1] == b"b":
            value, code = line[1:].split()
        else:
            value, code = line[:1], line[1:].strip()
        if code not in handles:
            continue
        if inside:
            handle, width = handles[code]
            emit(context, handle, _bits(value, width))
        else:
            before[code] = value


def _bits(value: bytes, width: int) -> bytes:
    """All bits of a value: VCD leaves out leading ones that repeat, or zeros."""
    return value if len(value) == width else value.rjust(width, b"0" if value[:1] == b"1" else value[:1])
