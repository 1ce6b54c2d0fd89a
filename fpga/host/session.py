"""Runs images on a board and gets their results, whatever happens on the way.

A failure (no answer, an impossible one, a refusal, a port that is gone) is mended in one way: open the port if it must
be, reset the accelerator by a break, load its programs, and go on with the image that was under way.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from fpga.baud import QUEUE_WORDS, words_per_second
from fpga.driver import DeviceError, HostOperation, ReplyError, identity, load_bundle
from fpga.host.serial_link import LinkError, LinkTime, Port, PortLostError, SerialLink
from fpga.runs import RunOutcome, patience, run_batch
from hw.network.exits import DEFAULT, Conditions
from hw.program.bundle import Bundle
from hw.program.protocol import PROTOCOL_VERSION

__all__ = ["BoardSession", "identify"]

#: Images that are handed to the link at once.
_BATCH = 64
#: Seconds that an answer may take besides the accelerator's time and the line's: adapters, operating systems.
_LATENCY = 0.25
#: Seconds between two looks for a port that is gone.
_LOOK = 0.2
#: Differences that were found again in another run: from then on they are believed at once.
_BELIEVED = 3


class _UnexpectedError(LinkError):
    """A result isn't what was expected, and may have been changed on the way: nothing in a RUN is checked."""


def identify(link: SerialLink) -> int:
    """Reset an accelerator, and ask it for the digest of its config.

    That is :attr:`hw.config.AcceleratorConfig.word_digest`.

    Raises
    ------
    LinkError
        When it speaks another version of the protocol, or as :meth:`fpga.host.serial_link.SerialLink.perform`.
    """
    link.restart()
    version, digest = link.perform(identity())
    if version != PROTOCOL_VERSION:
        raise LinkError(
            f"the board must speak version {PROTOCOL_VERSION} of the protocol, not {version}: build it anew"
        )
    return int(digest)


class BoardSession:
    """A host's use of one board; every error leaves both usable. Use it in a ``with`` statement.

    Parameters
    ----------
    connect : callable
        Opens the port; :class:`fpga.host.serial_link.LinkError` when it can't.
    bundle : Bundle
        The programs.
    clock_mhz, baud : float, int
        Of the board.
    conditions : Conditions
        Of all runs.
    held : bool
        Whether the board can hold the host back (:attr:`fpga.links.Link.held`): all may be sent at once then.
    busy : int, optional
        Most cycles that a run of these programs takes (:func:`sim.worst_case`); by default their timeout.
    tries : int
        Failures in a row, without a result between them, after which it is given up.
    away : float
        Seconds that a port may be gone.
    note : callable
        Told in words what went wrong and is mended.
    time : LinkTime

    Attributes
    ----------
    mended : list of str
        What went wrong so far.
    """

    def __init__(
        self,
        connect: Callable[[], Port],
        bundle: Bundle,
        *,
        clock_mhz: float,
        baud: int,
        held: bool = False,
        conditions: Conditions = DEFAULT,
        busy: int | None = None,
        tries: int = 5,
        away: float = 30.0,
        note: Callable[[str], None] = lambda text: None,
        time: LinkTime | None = None,
    ):
        self._connect = connect
        self._bundle = bundle
        self._conditions = conditions
        self._baud = baud
        self._tries, self._away, self._note = tries, away, note
        self._time = time or LinkTime()
        hertz = 1e6 * clock_mhz
        self._patience = patience(bundle, conditions) / hertz + _LATENCY
        busy = max(decoded.header.timeout for decoded in bundle.decoded) if busy is None else busy
        # Where a run is over before the queue in front of the accelerator can be full, all may be sent at once, too.
        lost = not held and busy / hertz > QUEUE_WORDS / words_per_second(baud)
        self._ahead = QUEUE_WORDS if lost else None
        self._link: SerialLink | None = None
        self._loaded = False
        self._failures = 0  # since the last result
        self._unexpected: dict[int, RunOutcome] = {}
        self._confirmed = 0
        self.mended: list[str] = []

    def __enter__(self) -> Self:
        """Open the port and load the programs."""
        try:
            self._carry_out(_nothing, lambda: "loading")
        except BaseException:
            self._close(restart=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(restart=error is not None)

    def _close(self, *, restart: bool) -> None:
        if self._link is not None:
            with suppress(LinkError):
                if restart:
                    self._link.restart()
            self._link.close()

    def run(
        self,
        runs: Sequence[tuple[int, np.ndarray]],
        *,
        report: bool = False,
        expected: Callable[[int, RunOutcome], bool] = lambda number, outcome: True,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[RunOutcome]:
        """Run images back to back.

        Parameters
        ----------
        runs : list of (program_number, int8 array (height, width, channels))
        report : bool
            Ask for layer records.
        expected : callable
            Whether a run, by its number, has come out as it must. One that hasn't is done again; what it comes to twice
            is its outcome.
        done : callable
            Told how many have ended.

        Raises
        ------
        LinkError
            When it was given up; the message says after how many images, and why.
        """
        outcomes: list[RunOutcome] = []

        def ended(number: int, outcome: RunOutcome | DeviceError) -> None:
            if isinstance(outcome, DeviceError):
                raise outcome
            there = len(self._bundle.decoded[runs[number][0]].layers)
            if any(record["index"] >= there for record in outcome.layers):
                raise ReplyError(f"the board must report of layers below {there}, not of {outcome.layers[-1]['index']}")
            if not expected(number, outcome):
                self._doubt(number, outcome)
            outcomes.append(outcome)
            self._failures = 0
            done(len(outcomes))

        def batch() -> HostOperation:
            first = len(outcomes)
            return run_batch(
                runs[first : first + _BATCH],
                report=report,
                conditions=self._conditions,
                first=first,
                ahead=self._ahead,
                ended=ended,
            )

        while len(outcomes) < len(runs):
            self._carry_out(batch, lambda: f"image {len(outcomes) + 1} of {len(runs)}")
        return outcomes

    def _carry_out(self, make: Callable[[], HostOperation], where: Callable[[], str]) -> None:
        """Carry out an operation, made anew after each failure; ``where`` says in words how far it is."""
        while True:
            link = self._opened()
            try:
                if not self._loaded:
                    self._load(link)
                link.perform(make())
                return
            except (LinkError, ReplyError, DeviceError) as error:
                self._failed(error, f"{where()}: {error}")

    def _opened(self) -> SerialLink:
        """The link, on a port that is opened if it must be; one that was there before may take its time."""
        until = self._time.now() + (self._away if self.mended else 0.0)
        while self._link is None:
            try:
                port = self._connect()
                self._link = SerialLink(port, baud=self._baud, patience=self._patience, time=self._time)
            except LinkError as error:
                if self._time.now() >= until:
                    gone = f"; it was away for {self._away:g} s" if self.mended else ""
                    raise LinkError(f"{error}{gone}") from error
                self._time.wait(_LOOK)
        return self._link

    def _load(self, link: SerialLink) -> None:
        """Reset the accelerator, see that it is the right one, and load the programs."""
        digest, config = identify(link), self._bundle.config
        if digest != config.word_digest:
            raise LinkError(
                f"the board must have the config that the program is for, {config.word_digest:08x}, not {digest:08x}: "
                "compile for that one, or build this one"
            )
        link.perform(load_bundle(self._bundle))
        self._loaded = True

    def _failed(self, error: Exception, text: str) -> None:
        """Get ready to do it again, or give up."""
        self._loaded = False
        if isinstance(error, PortLostError) and self._link is not None:
            self._link.close()
            self._link = None
        self._failures += 1
        if self._failures == self._tries:
            self._failures = 0
            raise LinkError(f"{text}; given up after {self._tries} failures in a row") from error
        self.mended.append(text)
        self._note(text)

    def _doubt(self, number: int, outcome: RunOutcome) -> None:
        """See that an unexpected outcome comes again before it is believed."""
        if self._confirmed >= _BELIEVED:
            return
        if self._unexpected.get(number) == outcome:
            self._confirmed += 1
            return
        self._unexpected[number] = outcome
        raise _UnexpectedError("the result is not the expected one; it is asked for again")


def _nothing() -> HostOperation:
    """No operation: loading alone."""
    yield from ()
