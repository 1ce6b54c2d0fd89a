"""Replies of three sources in one stream: whole, in order, none lost."""

from random import Random

import pytest
from amaranth import Module, ResetInserter, Signal
from amaranth.hdl import Elaboratable

from hw.program.bits import decode, encode
from hw.program.protocol import ErrorCode, Reply, ReplyHeader
from hw.rtl.host.reply_port import ReplyPort
from hw.rtl.records import ReplyRecord
from tests.hw.simulate import Bench, always, receive, reused, seldom, send, simulate

#: Payload words of the longest record.
LONGEST = ReplyRecord.as_shape()["payload"].width // 32


def random_record(rng: Random, reply: Reply) -> tuple[dict, list[int]]:
    """A record, and the words that it must become."""
    words = [rng.randrange(1 << 32) for _ in range(rng.randint(0, LONGEST))]
    code = rng.choice(list(ErrorCode))
    # Words behind the record's length are not sent, whatever they are.
    behind = [rng.randrange(1 << 32) for _ in range(LONGEST - len(words))]
    payload = sum(word << 32 * number for number, word in enumerate([*words, *behind]))
    header = encode(ReplyHeader, reply=reply, code=code, length=len(words))
    return {"reply": reply, "code": code, "length": len(words), "payload": payload}, [*header, *words]


def split(words: list[int]) -> list[list[int]]:
    """Whole replies."""
    replies = []
    while words:
        length = 1 + decode(ReplyHeader, words[:1])["length"]
        assert len(words) >= length, "a reply is cut off"
        replies.append(words[:length])
        words = words[length:]
    return replies


@pytest.mark.parametrize("share", [1.0, 0.6, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_every_reply_comes_whole_and_in_its_sources_order(tmp_path, seed, share):
    def build(rng: Random) -> Bench:
        dut = reused(ReplyPort)
        answers = [random_record(rng, Reply.READY) for _ in range(rng.randint(5, 12))]
        records = [random_record(rng, Reply.LAYER) for _ in range(rng.randint(5, 12))]
        found = []

        async def answer(ctx):
            await send(ctx, dut.answer, [fields for fields, _ in answers], seldom(rng, share))

        async def record(ctx):
            await send(ctx, dut.record, [fields for fields, _ in records], seldom(rng, share))

        async def take(ctx):
            count = sum(len(words) for _, words in answers + records)
            found.extend(await receive(ctx, dut.o, count, seldom(rng, share)))

        def check():
            replies = split(found)
            for kind, expected in ((Reply.READY, answers), (Reply.LAYER, records)):
                own = [words for words in replies if decode(ReplyHeader, words[:1])["reply"] == kind.value]
                assert own == [words for _, words in expected]

        return Bench(dut=dut, testbenches=[answer, record, take], check=check)

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_words_are_sent_as_they_are_before_any_record(tmp_path, share):
    def build(rng: Random) -> Bench:
        dut = reused(ReplyPort)
        words = [rng.randrange(1 << 32) for _ in range(20)]
        fields, expected = random_record(rng, Reply.RESULT)

        async def data(ctx):
            await send(ctx, dut.data, words, always())

        async def record(ctx):
            await send(ctx, dut.record, [fields], always())

        async def take(ctx):
            assert await receive(ctx, dut.o, len(words) + len(expected), seldom(rng, share)) == [*words, *expected]

        return Bench(dut=dut, testbenches=[data, record, take])

    simulate(build, seed=5, folder=tmp_path)


def test_a_waiting_answer_goes_before_a_waiting_record_and_costs_a_cycle(tmp_path):
    def build(rng: Random) -> Bench:
        dut = reused(ReplyPort)
        first, wanted_first = random_record(rng, Reply.INFO)
        second, wanted_second = random_record(rng, Reply.RESULT)

        async def drive(ctx):
            for stream, fields in ((dut.answer, first), (dut.record, second)):
                ctx.set(stream.payload, fields)
                ctx.set(stream.valid, 1)
            ctx.set(dut.o.ready, 1)
            for stream, words in ((dut.answer, wanted_first), (dut.record, wanted_second)):
                assert (ctx.get(stream.ready), ctx.get(dut.o.valid)) == (1, 0)
                await ctx.tick()
                ctx.set(stream.valid, 0)
                for word in words:
                    assert (ctx.get(dut.o.valid), ctx.get(dut.o.payload)) == (1, word)
                    await ctx.tick()
            assert not ctx.get(dut.o.valid)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=6, folder=tmp_path)


class _Resettable(Elaboratable):
    """A port and its reset."""

    def __init__(self):
        self.port, self.restart = ReplyPort(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = ResetInserter(self.restart)(self.port)
        return m


@pytest.mark.parametrize("sent", range(LONGEST + 1))
def test_a_reset_forgets_what_is_not_sent(tmp_path, sent):
    """After any number of words; the next record comes whole."""

    def build(rng: Random) -> Bench:
        dut = reused(_Resettable)
        port = dut.port
        words = list(range(1, LONGEST + 1))
        payload = sum(word << 32 * number for number, word in enumerate(words))
        fields = {"reply": Reply.LAYER, "code": ErrorCode.NONE, "length": LONGEST, "payload": payload}
        header = encode(ReplyHeader, reply=Reply.LAYER, code=ErrorCode.NONE, length=LONGEST)

        async def drive(ctx):
            for count in (sent, LONGEST + 1):
                await send(ctx, port.record, [fields], always())
                assert await receive(ctx, port.o, count, always()) == [*header, *words][:count]
                ctx.set(dut.restart, 1)
                await ctx.tick()
                ctx.set(dut.restart, 0)
                assert not ctx.get(port.o.valid)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=7, folder=tmp_path)
