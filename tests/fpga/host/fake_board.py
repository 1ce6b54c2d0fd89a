"""A board played in Python, with its serial line, in a time of its own: nothing waits."""

import zlib
from collections import deque

import numpy as np

from fpga.baud import QUEUE_WORDS
from fpga.host.serial_link import LinkError, LinkTime
from fpga.runs import image_words
from hw.program.bits import decode, encode, words_of
from hw.program.bundle import Bundle
from hw.program.program import Program
from hw.program.protocol import (
    PROTOCOL_VERSION,
    CommandHeader,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Reply,
    ReplyHeader,
    RunFlags,
    RunOptions,
    RunResult,
)
from sim import Simulation

BAUD = 1_000_000
_BYTE_TIME = 10 / BAUD
_READ_TIME = 0.02


def layer_counters(timing: Simulation) -> list[list[dict[str, int]]]:
    """What must be counted of the layers that each image runs."""
    fields = {"cycles": timing.layer_cycles, "products": timing.products, "stalls": timing.stalls}
    fields |= {"waited": timing.waited}
    return [
        [
            {"index": int(index)} | {name: int(values[number, index]) for name, values in fields.items()}
            for index in np.flatnonzero(ran)
        ]
        for number, ran in enumerate(timing.layer_cycles)
    ]


class FakeTime(LinkTime):
    """Time that passes only where somebody waits."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds

    def wait(self, seconds):
        self.seconds += seconds


class FakeBoard:
    """Port and board in one, as :class:`fpga.host.serial_link.Port`.

    Parameters
    ----------
    bundle : Bundle
    codes : int8 array (images, height, width, channels)
    results : list of dict
        Label, exit, margin and cycles of each image; any other image has a label of 255, and its own cycles.
    run_time : float
        Seconds that a run takes. The accelerator takes no words meanwhile.
    """

    def __init__(self, bundle: Bundle, codes: np.ndarray, results: list[dict[str, int]], *, run_time: float = 0.0):
        self.time = FakeTime()
        self.digest = bundle.config.word_digest
        self.run_time = run_time
        self.breaks = self.loads = self.lost = self.opened = 0
        self.away_until = 0.0
        self.wrong: dict[int, list[int]] = {}  # labels that runs of an image come out with, before the right one
        self.silent = self.babbling = False
        self.counters: list[list[dict[str, int]]] = []  # of each image's layers, in runs that are to report
        self._images = {image_words(image).tobytes(): number for number, image in enumerate(codes)}
        self._results = results
        self._sent_by = 0.0
        self._low = False
        self._reset()

    def _reset(self):
        self._bytes = bytearray()
        self._words: list[int] = []
        self._writes: list[list[int]] | None = None
        self._loaded = False
        self._replies: deque[tuple[float, int]] = deque()  # when each byte is there
        self._busy_until = self._replied_by = 0.0
        self._queued = 0

    def connect(self) -> "FakeBoard":
        if self.time.now() < self.away_until:
            raise LinkError("fake: the port must be there")
        self.opened += 1
        return self

    def _here(self):
        if self.time.now() < self.away_until:
            raise OSError(5, "Input/output error")

    def unplug(self, seconds: float):
        self.away_until = self.time.now() + seconds
        self._reset()

    @property
    def break_condition(self) -> bool:
        return self._low

    @break_condition.setter
    def break_condition(self, low):
        self._here()
        if low:
            self.breaks += 1
            self._reset()
        self._low = low

    def reset_output_buffer(self):
        self._here()

    def close(self):
        pass

    @property
    def in_waiting(self) -> int:
        self._here()
        return sum(when <= self.time.now() for when, _ in self._replies)

    def read(self, size: int) -> bytes:
        self._here()
        if not size:
            return b""
        if self.babbling:
            self.time.wait(_BYTE_TIME)
            return b"\x55"
        if not self.in_waiting:
            self.time.wait(_READ_TIME)
        return bytes(self._replies.popleft()[1] for _ in range(min(size, self.in_waiting)))

    def write(self, data: bytes) -> int:
        self._here()
        for byte in data:
            self._sent_by = max(self.time.now(), self._sent_by) + _BYTE_TIME
            self._bytes.append(byte)
            if len(self._bytes) == 4:
                self._arrived(int.from_bytes(self._bytes, "little"))
                self._bytes.clear()
        return len(data)

    def _arrived(self, word: int):
        """A word at the queue in front of the accelerator."""
        self._queued = self._queued + 1 if self._sent_by < self._busy_until else 0
        if self._queued > QUEUE_WORDS:
            self.lost += 1
            return
        self._words.append(word)
        header = decode(CommandHeader, self._words[:1])
        if len(self._words) == 1 + header["length"]:
            words, self._words = self._words, []
            if not self.silent:
                self._command(header, words[1:])

    def _command(self, header: dict[str, int], payload: list[int]):
        kinds = {kind.value: kind for kind in HostCommand}
        kind = kinds.get(header["command"])
        if kind is HostCommand.INFO:
            self._reply(Reply.INFO, [PROTOCOL_VERSION, self.digest])
        elif kind is HostCommand.BEGIN:
            self._writes, self._loaded = [], False
        elif kind is HostCommand.WRITE and self._writes is not None:
            self._writes.append(payload)
        elif kind is HostCommand.COMMIT and self._writes is not None and len(payload) == 2:
            found = Program.checksum([np.array(words, np.uint32) for words in self._writes])
            self._loaded = found == payload[0]
            self.loads += self._loaded
            if self._loaded:
                self._reply(Reply.READY, [])
            else:
                self._reply(Reply.ERROR, [found], ErrorCode.BAD_CHECKSUM)
        elif kind is HostCommand.RUN and self._loaded and len(payload) > words_of(RunOptions):
            self._run(payload, decode(RunFlags, [header["argument"]])["report"])
        else:
            self._reply(Reply.ERROR, [0], ErrorCode.BAD_COMMAND)

    def _run(self, payload: list[int], report: int):
        options = decode(RunOptions, payload[: words_of(RunOptions)])
        image = np.array(payload[words_of(RunOptions) :], "<u4").tobytes()
        number = self._images.get(image)
        fields = {"label": 255, "exit": 0, "margin": 0, "cycles": zlib.crc32(image)}
        if number is not None:
            fields = dict(self._results[number])
        if number is not None and self.wrong.get(number):
            fields["label"] = self.wrong[number].pop(0)
        flags = dict.fromkeys(("out_of_range", "forced", "passed", "differs", "overrun"), 0)
        flags |= {"early_label": 0, "early_exit": 0}
        self._busy_until = max(self._sent_by, self._busy_until) + self.run_time
        for record in self.counters[number] if report and number is not None and self.counters else ():
            self._reply(Reply.LAYER, encode(LayerRecord, **record, tag=options["tag"]))
        self._reply(Reply.RESULT, encode(RunResult, **fields, **flags, tag=options["tag"]))

    def _reply(self, reply: Reply, payload: list[int], code: ErrorCode = ErrorCode.NONE):
        words = [*encode(ReplyHeader, reply=reply, code=code, length=len(payload)), *payload]
        for byte in np.array(words, "<u4").tobytes():
            self._replied_by = max(self._replied_by, self._sent_by, self._busy_until) + _BYTE_TIME
            self._replies.append((self._replied_by, byte))
