import random
import struct

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator
from luna.gateware.interface.utmi import UTMIInterface

from fpga.driver import Answer, identity, load_bundle, reply_length
from fpga.gateware.usb import UsbShell
from fpga.runs import run_image
from hw.config import preset
from hw.network.exits import DEFAULT
from hw.program.bundle import bundle_of
from hw.program.protocol import PROTOCOL_VERSION
from hw.rtl.accelerator import Accelerator
from tests.fpga.cores import RunningSum, running_sums, word_bytes
from tests.fpga.gateware.usb_host import StalledError, UsbHost
from tests.fpga.gateware.usb_wires import Pid, UtmiWire

DATA = 4


class Bench(wiring.Component):
    pause: In(1)
    reset: In(1)

    def __init__(self, core=None, packet_bytes=64):
        super().__init__()
        self.utmi = UTMIInterface()
        self.packet_bytes = packet_bytes
        self.core = core or RunningSum()

    def elaborate(self, platform):
        m = Module()
        m.submodules.shell = shell = UsbShell(self.core, self.utmi, self.packet_bytes)
        m.d.comb += shell.reset.eq(self.reset)
        if isinstance(self.core, RunningSum):
            m.d.comb += self.core.pause.eq(self.pause)
        return m


def simulate(dut, scenario, *, core_mhz=50.0, pace=0, seed=0):
    host = UsbHost(UtmiWire(dut.utmi, pace, seed), dut.packet_bytes)
    simulator = Simulator(dut)
    simulator.add_clock(1 / 60e6, domain="usb")
    simulator.add_clock(1e-6 / core_mhz)

    async def testbench(ctx):
        await host.wire.plug(ctx)
        await host.reset(ctx)
        await scenario(ctx, host)

    simulator.add_testbench(testbench)
    simulator.run()
    return host


async def collect(ctx, host, count):
    """So many bytes from the device."""
    found = bytearray()
    for _ in range(2000):
        found += await host.bulk_in(ctx, DATA) or b""
        if len(found) >= count:
            return bytes(found)
    raise TimeoutError(f"{len(found)} of {count} bytes")


async def put(ctx, host, data):
    """A bulk packet, again and again until the device takes it."""
    for _ in range(1000):
        if await host.bulk_out(ctx, DATA, data):
            return
    raise TimeoutError("the device takes no packet")


async def brought_up(ctx, host):
    told = await host.enumerate(ctx)
    await host.request(ctx, 0x21, 0x22, value=3)  # SET_CONTROL_LINE_STATE: what opening a port does
    await ctx.tick("usb").repeat(2100)  # a new configuration restarts
    return told


async def send_break(ctx, host, value):
    await host.request(ctx, 0x21, 0x23, value=value)


def test_enumerates_as_a_serial_port_that_takes_breaks():
    async def scenario(ctx, host):
        told = await host.enumerate(ctx)
        assert told[1][8:12] == bytes.fromhex("09120100")  # vendor and product
        configuration = told[2]
        assert int.from_bytes(configuration[2:4], "little") == len(configuration)
        parts, at = [], 0
        while at < len(configuration):
            parts.append(configuration[at : at + configuration[at]])
            at += configuration[at]
        classes = [part[5:8].hex() for part in parts if part[1] == 4]
        assert classes == ["020201", "0a0000"]
        # Of the functional descriptors the header comes first.
        assert [part[2] for part in parts if part[1] == 0x24] == [0, 2, 6, 1]
        assert bytes.fromhex("04240204") in parts
        endpoints = {part[2]: int.from_bytes(part[4:6], "little") for part in parts if part[1] == 5}
        assert endpoints == {0x83: 64, 0x84: 64, 0x04: 64}
        with pytest.raises(StalledError):
            await host.request(ctx, 0x21, 0x02)  # CLEAR_COMM_FEATURE
        await host.request(ctx, 0x21, 0x20, data=bytes(7))  # SET_LINE_CODING

    simulate(Bench(), scenario)


@pytest.mark.parametrize(
    ("seed", "core_mhz", "pace"),
    [(0, 50.0, 0), (1, 100.0, 3), pytest.param(2, 7.0, 15, marks=pytest.mark.slow)],
)
def test_words_through_the_shell_with_random_pauses_and_lost_acknowledgements(seed, core_mhz, pace):
    dut = Bench()
    generator = random.Random(seed)
    values = [generator.randrange(1 << 32) for _ in range(200)]
    lost = {"out": 0, "in": 0, "damaged": 0}

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        unsent, found = bytearray(word_bytes(values)), bytearray()
        for _ in range(3000):
            ctx.set(dut.pause, generator.random() < 0.5)
            if generator.random() < 0.3:
                await ctx.tick("usb").repeat(generator.randrange(1, 80))
            if unsent and generator.random() < 0.6:
                part = bytes(unsent[: generator.choice([1, 3, 64, 64, 64])])
                toggle = host.toggles[Pid.OUT]
                if generator.random() < 0.1:  # damaged on its way: no answer
                    assert await host.out(ctx, DATA, toggle, part, broken=True) is None
                    lost["damaged"] += 1
                elif await host.bulk_out(ctx, DATA, part):
                    del unsent[: len(part)]
                    if generator.random() < 0.2:  # its acknowledgement was lost: it comes again
                        assert await host.out(ctx, DATA, toggle, part) == Pid.ACK
                        lost["out"] += 1
            elif generator.random() < 0.2:  # the host doesn't understand the packet: it comes again
                pid, _ = await host.take(ctx, DATA, acknowledge=False)
                lost["in"] += pid != Pid.NAK
            else:
                found += await host.bulk_in(ctx, DATA) or b""
            if not unsent and len(found) == 4 * len(values):
                break
        assert bytes(found) == running_sums(values)
        assert await host.bulk_in(ctx, DATA) is None

    host = simulate(dut, scenario, core_mhz=core_mhz, pace=pace, seed=seed)
    assert host.naks > 10
    assert all(lost.values())


def test_packets_that_find_no_room_are_refused_and_nothing_is_lost():
    dut = Bench()
    values = list(range(1, 97))

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        ctx.set(dut.pause, 1)
        data, taken = word_bytes(values), 0
        assert await host.ping(ctx, DATA) == Pid.ACK
        while taken < len(data) and await host.bulk_out(ctx, DATA, data[taken : taken + 64]):
            taken += 64
        # One packet has gone to the queue behind, one waits in the endpoint, and the next one might not have had room.
        assert 64 < taken < len(data)
        assert not await host.bulk_out(ctx, DATA, data[taken : taken + 64])
        assert await host.ping(ctx, DATA) == Pid.NAK
        ctx.set(dut.pause, 0)
        found = bytearray()
        for _ in range(200):
            if taken < len(data) and await host.bulk_out(ctx, DATA, data[taken : taken + 64]):
                taken += 64
            found += await host.bulk_in(ctx, DATA) or b""
            if len(found) == len(data):
                break
        assert bytes(found) == running_sums(values)

    simulate(dut, scenario)


def test_a_reply_of_whole_packets_ends_with_an_empty_one():
    """Else the host waits for more: its buffer of several packets isn't full."""
    dut = Bench()
    values = list(range(16))

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        ctx.set(dut.pause, 1)
        await put(ctx, host, word_bytes(values))
        await ctx.tick("usb").repeat(100)
        ctx.set(dut.pause, 0)
        await ctx.tick("usb").repeat(200)
        packets = []
        while (packet := await host.bulk_in(ctx, DATA)) is not None:
            packets.append(packet)
        assert b"".join(packets) == running_sums(values)
        assert len(packets[-1]) < 64

    simulate(dut, scenario)


def test_answers_that_follow_each_other_share_a_packet():
    dut = Bench()
    values = list(range(4))

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        ctx.set(dut.pause, 1)
        await put(ctx, host, word_bytes(values))
        for _ in values:
            await ctx.tick().repeat(10)
            ctx.set(dut.pause, 0)
            await ctx.tick()
            ctx.set(dut.pause, 1)
        await ctx.tick("usb").repeat(100)
        assert await host.bulk_in(ctx, DATA) == running_sums(values)

    simulate(dut, scenario)


@pytest.mark.parametrize("values", [[0xFFFF, 0], [5]], ids=["until it is ended", "of 5 ms"])
def test_a_break_in_the_middle_of_a_word_restarts_everything(values):
    dut = Bench()

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        await put(ctx, host, word_bytes([0x0002_0003]))
        assert await collect(ctx, host, 4) == word_bytes([6])
        ctx.set(dut.pause, 1)
        await put(ctx, host, word_bytes([1, 2, 3]) + b"\x01")
        await put(ctx, host, b"\x02" * 60)  # waits in the endpoint
        await ctx.tick("usb").repeat(200)
        ctx.set(dut.pause, 0)
        await ctx.tick("usb").repeat(20)  # part of the answers waits to be sent
        for value in values:
            await send_break(ctx, host, value)
            if value == 0xFFFF:  # what comes meanwhile is lost, however much
                for _ in range(12):
                    assert await host.bulk_out(ctx, DATA, word_bytes([0x0007_0007] * 16))
        await put(ctx, host, word_bytes([0x0003_0005]))
        assert await collect(ctx, host, 4) == word_bytes([15])
        for _ in range(20):
            assert await host.bulk_in(ctx, DATA) is None

    simulate(dut, scenario)


def test_answers_that_the_host_has_not_asked_for_are_forgotten_at_a_break():
    dut = Bench()

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        await put(ctx, host, word_bytes(range(1, 17)))
        await put(ctx, host, word_bytes(range(1, 17)))
        await ctx.tick("usb").repeat(300)
        await send_break(ctx, host, 1)
        assert await host.bulk_in(ctx, DATA) is None
        await put(ctx, host, word_bytes([0x0003_0005]))
        assert await collect(ctx, host, 4) == word_bytes([15])

    simulate(dut, scenario)


def test_a_bus_reset_in_the_middle_restarts_everything():
    dut = Bench()

    async def scenario(ctx, host):
        for _ in range(2):  # DATA1 would be next each way; it is DATA0
            await brought_up(ctx, host)
            await put(ctx, host, word_bytes([0x0003_0005]))
            assert await collect(ctx, host, 4) == word_bytes([15])
            await put(ctx, host, word_bytes([0x0003_0005, 4]))
            await put(ctx, host, b"\x01")
            await ctx.tick("usb").repeat(100)
            await host.reset(ctx)
        await brought_up(ctx, host)
        await put(ctx, host, word_bytes([0x0001_0001]))
        assert await collect(ctx, host, 4) == word_bytes([1])

    assert simulate(dut, scenario).repeats == 0


def test_a_new_configuration_restarts_everything():
    dut = Bench()

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        await put(ctx, host, word_bytes([0x0003_0005]) + b"\x01")
        await ctx.tick("usb").repeat(100)
        await host.request(ctx, 0x00, 9, value=1)
        host.toggles = {Pid.OUT: Pid.DATA0, Pid.IN: Pid.DATA0}
        await put(ctx, host, word_bytes([0x0001_0001]))
        assert await collect(ctx, host, 4) == word_bytes([1])

    simulate(dut, scenario)


def test_where_a_host_clears_a_halt_only_the_toggles_begin_anew():
    dut = Bench()

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        await put(ctx, host, word_bytes([0x0003_0005]))
        assert await collect(ctx, host, 4) == word_bytes([15])
        await put(ctx, host, b"\x01\x00")
        await put(ctx, host, b"\x01")
        for endpoint, way in ((0x04, Pid.OUT), (0x84, Pid.IN)):
            await host.request(ctx, 0x02, 0x01, index=endpoint)  # CLEAR_FEATURE, ENDPOINT_HALT
            host.toggles[way] = Pid.DATA0
        await put(ctx, host, b"\x00")
        assert await collect(ctx, host, 4) == word_bytes([16])

    assert simulate(dut, scenario).repeats == 0


def test_the_boards_reset_resets_the_core():
    dut = Bench()

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        await put(ctx, host, word_bytes([0x0003_0005]))
        assert await collect(ctx, host, 4) == word_bytes([15])
        ctx.set(dut.reset, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.reset, 0)
        await ctx.tick().repeat(3)
        await put(ctx, host, word_bytes([0x0001_0001]))
        assert await collect(ctx, host, 4) == word_bytes([1])

    simulate(dut, scenario)


async def perform(ctx, host, operation):
    """A protocol operation over bulk packets; its outcome."""
    received = bytearray()

    async def take(count):
        while len(received) < 4 * count:
            received.extend(await collect(ctx, host, 1))
        found = list(struct.unpack(f"<{count}I", received[: 4 * count]))
        del received[: 4 * count]
        return found

    async def answer():
        (header,) = await take(1)
        return Answer.from_words([header, *await take(reply_length(header))])

    try:
        transaction = next(operation)
        while True:
            data = word_bytes(transaction.words)
            for start in range(0, len(data), host.packet_bytes):
                await put(ctx, host, data[start : start + host.packet_bytes])
            transaction = operation.send([await answer() for _ in range(transaction.replies)])
    except StopIteration as finished:
        assert not received
        return finished.value


@pytest.mark.slow
def test_an_image_is_classified_over_usb():
    """The RTL, a program and an image of random numbers; result and cycles as golden model and simulator have them."""
    from hw.compiler.compile import compile_network
    from models.integer.golden import run as golden
    from sim import simulate as simulate_program
    from tests.random_networks import random_codes, random_network

    config, network = preset("tiny"), random_network(434)
    program = compile_network(network, config)
    codes = random_codes(network, 1, 0)
    found = golden(network, codes)
    (cycles,) = simulate_program(program, codes, golden=found).cycles

    async def scenario(ctx, host):
        await brought_up(ctx, host)
        version, digest = await perform(ctx, host, identity())
        assert (version, digest) == (PROTOCOL_VERSION, config.word_digest)
        await perform(ctx, host, load_bundle(bundle_of([program])))
        outcome = await perform(ctx, host, run_image(program, codes[0], conditions=DEFAULT))
        assert (outcome.label, outcome.exit) == (found.classes[0], found.exit_index[0])
        assert (outcome.margin, outcome.cycles) == (found.margins[0, outcome.exit], cycles)

    simulate(Bench(Accelerator(config), 512), scenario)
