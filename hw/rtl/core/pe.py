"""A processing element: walks lists of nonzero weights for the activations it is given.

::

    dispatcher ─► pointer lookup ──► job queue ──► walker ──► list memory ──► accumulators ──► output queue ──► lane
                  (list memory)                    1 entry a cycle            1 product a cycle
"""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import LIST_WORD_BITS, AcceleratorConfig
from hw.rtl.core.accumulator import AccumulatorUnit
from hw.rtl.core.queue import Queue
from hw.rtl.core.split_lists import SplitMemory
from hw.rtl.interfaces import JobPort, PointerLookup
from hw.rtl.records import job_layout
from hw.rtl.structs import entry_layout, pointer_layout

__all__ = ["ProcessingElement", "load_layout"]


def load_layout(address_bits: int, data_bits: int) -> data.StructLayout:
    """A write to a memory."""
    return data.StructLayout({"address": address_bits, "data": data_bits})


class _Walker:
    """What the walker issues in this cycle: an entry, or a dump of the accumulator at ``base``."""

    def __init__(self, config):
        self.issue, self.dump = Signal(), Signal(init=1)
        # The job's last; a dump that passes the value on; the output queue has room for it. All decide when the next
        # job is taken: nothing has to be computed for them in that cycle.
        self.last, self.emit, self.room = Signal(), Signal(), Signal(init=1)
        self.value = Signal(signed(9))
        self.base = Signal(config.accumulator_address_bits)
        self.skip = Signal(2) if config.split_lists else None  # marks of entries without a product


class ProcessingElement(wiring.Component):
    """One PE with its list memory, accumulators and queues.

    Members
    -------
    load : In(stream of load_layout), always ready
        Writes to the list memory; while a layer runs, only in cycles without ``lookup.advance``, and never to a list
        that the layer uses.
    lookup : In(PointerLookup)
        The pipeline of pointer lookups moves on.
    dispatcher : In(JobPort)
        Jobs for the list that has come through it.
    dump_length : In
        Accumulators of one output position: the length of a dump.
    max_pool : In(1)
        Accumulators keep the largest product; constant while there are jobs.
    o : Out(stream of signed accumulators)
        Finished accumulators, in address order row by row.
    product : Out(1)
        A product enters the accumulators in this cycle.
    clearing : Out(1)
        After a reset, while all accumulators are being set to 0.

    A job of n entries occupies the walker for n cycles, without a gap to the next one; a dump occupies it for
    ``dump_length`` cycles and waits for space in the output queue. Jobs are done in order.

    Parts, as in the picture: pointer lookup, job queue, walker, the way to the accumulators, output queue.

    Latency: :attr:`LATENCY` cycles from the walker's issue of a dump to ``o``. Throughput: a product, or an accumulator
    dumped, a cycle. Back-pressure: on ``o``, which holds dumps up; on jobs, by ``blocked``. Reset: drops all jobs,
    clears.
    """

    #: Cycles from the issue of an entry to its place in the output queue.
    LATENCY = 3 + AccumulatorUnit.LATENCY + 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        address_bits = config.accumulator_address_bits
        super().__init__(
            {
                "load": In(stream.Signature(load_layout(config.start_bits, LIST_WORD_BITS), always_ready=True)),
                "lookup": In(PointerLookup(config)),
                "dispatcher": In(JobPort(config)),
                "dump_length": In(address_bits + 1),
                "max_pool": In(1),
                "o": Out(stream.Signature(signed(config.accumulator_bits))),
                "product": Out(1),
                "clearing": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        walker = _Walker(self._config)
        pointer, entry_port, following_hit = self._look_up(m)
        jobs = self._queue_jobs(m, pointer, following_hit)
        self._walk(m, walker, jobs, entry_port)
        accumulators = self._accumulate(m, walker, entry_port)
        self._queue_outputs(m, walker, accumulators)
        return m

    def _look_up(self, m):
        """Pointer lookup: list memory, its register, the push stage with a skid register in front of it.

        Returns
        -------
        tuple
            The pointer in the push stage, the walker's port of the list memory, and whether the list hits that the
            stage takes next.
        """
        config = self._config
        if config.split_lists:
            lists = SplitMemory(m, self.load, self.lookup, config)
            pointer = Signal(pointer_layout(config))
            return pointer, lists, self._keep_pointer(m, lists.found, lists.hit, pointer, lists.fetch)
        m.submodules.lists = lists = memory.Memory(
            shape=LIST_WORD_BITS, depth=config.list_words, init=[], attrs={"no_rw_check": 1}
        )
        # One address for writing and pointer lookup, one for the walker: a true dual-port block RAM.
        write, pointer_port, entry_port = lists.write_port(), lists.read_port(), lists.read_port()
        address = Signal(config.start_bits)
        m.d.comb += [
            address.eq(Mux(self.load.valid, self.load.payload.address, self.lookup.number)),
            write.addr.eq(address),
            write.data.eq(self.load.payload.data),
            write.en.eq(self.load.valid),
            pointer_port.addr.eq(address),
            pointer_port.en.eq(self.lookup.advance),
            entry_port.en.eq(1),
        ]
        fetched, pointer = Signal(pointer_layout(config)), Signal(pointer_layout(config))
        hit = self._keep_pointer(m, fetched, fetched.count != 0, pointer, [fetched.eq(pointer_port.data)])
        return pointer, entry_port, hit

    def _keep_pointer(self, m, fetched, filled, pointer, fetch):
        """Registers behind the RAM, which ``fetch`` loads, and one for what the dispatcher has to know in time.

        Returns whether the list hits that the push stage takes next.
        """
        config = self._config
        found = Signal(data.StructLayout({"pointer": pointer_layout(config), "hit": 1}))
        waiting, following = Signal.like(found), Signal.like(found)
        m.d.comb += [
            found.pointer.eq(fetched),
            found.hit.eq(filled),
            following.eq(Mux(self.lookup.advance, found, waiting)),
        ]
        with m.If(self.lookup.advance):
            m.d.sync += [*fetch, waiting.eq(found)]
        following_hit = Signal()
        m.d.comb += following_hit.eq(following.hit | self.lookup.dump)
        with m.If(self.lookup.pushed):
            m.d.sync += [pointer.eq(following.pointer), self.dispatcher.hit.eq(following_hit)]
        return following_hit

    def _queue_jobs(self, m, pointer, following_hit):
        """Job queue between dispatcher and walker; returns its end.

        What all PEs say decides whether the dispatcher moves on, in the same cycle: ``blocked`` is a register of its
        own, and ``lookup.pushed``, which comes last, only chooses between what it would be with and without.
        """
        config = self._config
        hit, wanted, pushed = self.dispatcher.hit, self.dispatcher.wanted, self.lookup.pushed
        job = Signal(data.StructLayout({"told": job_layout(config), "pointer": pointer_layout(config), "single": 1}))
        one_slot = Signal()
        m.d.sync += one_slot.eq(self.dump_length == 1)
        m.submodules.jobs = jobs = Queue(job.shape(), config.job_queue)
        m.d.comb += [
            job.told.eq(self.dispatcher.job),
            job.pointer.eq(pointer),
            job.single.eq(Mux(self.dispatcher.job.dump, one_slot, pointer.count == 1)),
            jobs.i.payload.eq(job),
            jobs.i.valid.eq(pushed & hit & wanted),
        ]
        full_then, stays = Mux(hit & wanted, jobs.one_place, jobs.full), ~(jobs.o.ready & jobs.o.valid)
        m.d.sync += self.dispatcher.blocked.eq(stays & Mux(pushed, following_hit & full_then, hit & jobs.full))
        return jobs.o

    def _walk(self, m, walker, jobs, entry_port):
        """The walker: an entry or an accumulator a cycle, to the last of a job, then the next one without a gap.

        It wakes up from reset dumping all accumulators without passing them on.
        """
        config = self._config
        active, clear = Signal(init=1), Signal(init=1)
        entry = Signal(config.start_bits)
        remaining = Signal(range(config.accumulators + 1), init=config.accumulators)
        issue, dump, last = walker.issue, walker.dump, walker.last
        m.d.comb += [
            walker.emit.eq(dump & ~clear),
            issue.eq(active & (~walker.emit | walker.room)),
            self.clearing.eq(clear),
            entry_port.addr.eq(entry),
            jobs.ready.eq(~active | (issue & last)),
        ]
        with m.If(issue):
            m.d.sync += [remaining.eq(remaining - 1), last.eq(remaining == 2), entry.eq(entry + 1)]
            with m.If(dump):
                m.d.sync += walker.base.eq(walker.base + 1)
            with m.If(last):
                m.d.sync += [active.eq(0), clear.eq(0)]
        head = jobs.payload
        with m.If(jobs.ready & jobs.valid):
            m.d.sync += [
                active.eq(1),
                dump.eq(head.told.dump),
                walker.value.eq(head.told.value),
                walker.base.eq(head.told.accumulator),
                *([walker.skip.eq(head.told.skip)] if config.split_lists else []),
                entry.eq(head.pointer.start),
                last.eq(head.single),
                remaining.eq(Mux(head.told.dump, self.dump_length, head.pointer.count)),
            ]

    def _accumulate(self, m, walker, entry_port):
        """Three cycles to the accumulators: list RAM output; registered entry, address sum; the accumulators' input."""
        config = self._config
        m.submodules.accumulators = accumulators = AccumulatorUnit(config)
        fields = {"valid": 1, "dump": 1, "emit": 1, "value": signed(9), "base": config.accumulator_address_bits}
        travelling = data.StructLayout(fields | ({"skip": 2} if config.split_lists else {}))
        ram, registered = Signal(travelling), Signal(travelling)
        entry = Signal(entry_layout(config), reset_less=True)
        step = accumulators.i.payload
        m.d.sync += [
            ram.valid.eq(walker.issue),
            ram.dump.eq(walker.dump),
            ram.emit.eq(walker.emit),
            ram.value.eq(walker.value),
            ram.base.eq(walker.base),
            registered.eq(ram),
            entry.eq(entry_port.data),
        ]
        entered = Signal()
        valid = registered.valid
        if config.split_lists:
            m.d.sync += ram.skip.eq(walker.skip)
            skipped = (registered.skip & entry.marks).any()
            valid &= registered.dump | ~skipped
        latched = Signal.like(step)
        m.d.sync += [
            entered.eq(valid),
            latched.dump.eq(registered.dump),
            latched.emit.eq(registered.emit),
            latched.value.eq(registered.value),
            latched.weight.eq(entry.weight),
            latched.address.eq(registered.base + Mux(registered.dump, 0, entry.offset)),
        ]
        m.d.comb += [
            accumulators.i.valid.eq(entered),
            accumulators.i.payload.eq(latched),
            accumulators.max_pool.eq(self.max_pool),
            self.product.eq(entered & ~latched.dump),
        ]
        return accumulators

    def _queue_outputs(self, m, walker, accumulators):
        """Output queue with credits: a dump is issued when its value has a place, so nothing behind it has to wait."""
        config = self._config
        m.submodules.outputs = outputs = Queue(signed(config.accumulator_bits), config.output_queue)
        promised, taken, gone = Signal(range(config.output_queue + 1)), Signal(), Signal()
        m.d.comb += [
            taken.eq(walker.issue & walker.emit),
            gone.eq(self.o.valid & self.o.ready),
            outputs.i.payload.eq(accumulators.o.payload),
            outputs.i.valid.eq(accumulators.o.valid),
        ]
        wiring.connect(m, wiring.flipped(self.o), outputs.o)
        m.d.sync += [
            promised.eq(promised + taken - gone),
            walker.room.eq(gone | (promised != Mux(taken, config.output_queue - 1, config.output_queue))),
        ]
