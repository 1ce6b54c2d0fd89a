"""Runs taken from the host: their options, their images, and what is lost."""

from random import Random

import pytest

from hw.network.exits import draws
from hw.program.bits import encode
from hw.program.protocol import RunOptions
from hw.rtl.control.image_loader import ImageLoader
from hw.rtl.exchange import Exchange
from tests.hw.rtl.control.test_image_packer import words_of_image
from tests.hw.simulate import Bench, always, reused, seldom, send, simulate


class Run:
    """A random run: flags, options, image."""

    def __init__(self, rng: Random):
        self.channels, self.zero_point = rng.choice((1, 3, 8, 11, 16)), rng.randrange(-128, 128)
        self.codes = [rng.randrange(-128, 128) for _ in range(self.channels * rng.randint(1, 9))]
        self.flags = {name: rng.randrange(2) for name in ("report", "step", "constant")} | {
            "program": rng.randrange(32)
        }
        self.options = {
            "deadline": rng.randrange(1 << 32),
            "seed": rng.randrange(1 << 16),
            "tag": rng.randrange(1 << 16),
        }
        drawn = int(draws(self.options["seed"]))
        self.options["audit"] = rng.choice((0, 256, drawn, drawn + 1, rng.randrange(257)))
        # What fills the last word counts for nothing.
        octets = [code & 0xFF for code in self.codes] + [rng.randrange(256) for _ in range(-len(self.codes) % 4)]
        image = [int.from_bytes(bytes(octets[first : first + 4]), "little") for first in range(0, len(octets), 4)]
        self.words = [*encode(RunOptions, **self.options), *image]

    async def announce(self, ctx, dut):
        """Accept the run."""
        assert ctx.get(dut.control.free)
        for name, value in (("bytes", len(self.codes)), ("channels", self.channels)):
            ctx.set(getattr(dut.control, name), value)
        ctx.set(dut.control.zero_point, self.zero_point & 0xFF)
        await ctx.tick()
        ctx.set(dut.control.flags, self.flags)
        ctx.set(dut.control.run, 1)
        await ctx.tick()
        ctx.set(dut.control.run, 0)

    def check(self, ctx, dut):
        """What the loader says of the run that waits."""
        flags, options = ctx.get(dut.control.waiting), ctx.get(dut.control.options)
        assert {name: getattr(flags, name) for name in self.flags} == self.flags
        assert {name: getattr(options, name) for name in self.options} == self.options
        assert ctx.get(dut.control.drawn) == (int(draws(self.options["seed"])) < self.options["audit"])


class Watcher:
    """Words that leave, and in which cycles; whether there was room in the one before."""

    def __init__(self, dut):
        self.dut, self.words, self.cycles, self.roomy = dut, [], [], []

    async def watch(self, ctx):
        cycle, roomy = 0, 1
        while True:
            _, _, valid, word, room = await ctx.tick().sample(
                self.dut.image.valid, self.dut.image.payload, self.dut.room
            )
            if valid:
                self.words.append((word.index, list(word.values)))
                self.cycles.append(cycle)
                self.roomy.append(roomy)
            cycle, roomy = cycle + 1, room


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_runs_are_taken_one_after_the_other(tmp_path, seed, share):
    """Under stalls of the host's stream, with the place free sooner or later, with a run at work or none."""

    def build(rng: Random) -> Bench:
        dut = reused(ImageLoader)
        runs = [Run(rng) for _ in range(8)]
        watcher = Watcher(dut)

        async def host(ctx):
            for run in runs:
                while not ctx.get(dut.control.free):
                    await ctx.tick()
                await ctx.tick().repeat(rng.randrange(1, 4))
                await run.announce(ctx, dut)
                await send(ctx, dut.word, run.words, seldom(rng, share))

        async def sequencer(ctx):
            for run in runs:
                spaced = rng.random() < 0.5
                ctx.set(dut.control.spaced, spaced)
                ctx.set(dut.room, 1)
                for signal in (dut.control.allowed, dut.control.take):
                    ctx.set(signal, 0)
                del watcher.words[:], watcher.cycles[:], watcher.roomy[:]
                while ctx.get(dut.control.free):
                    await ctx.tick()
                await ctx.tick().repeat(rng.randrange(1, 40))
                assert not watcher.words, "a word before its place is free"
                ctx.set(dut.control.allowed, 1)
                while not ctx.get(dut.control.loaded):
                    ctx.set(dut.room, not spaced or rng.random() < 0.7)
                    await ctx.tick()
                run.check(ctx, dut)
                assert not ctx.get(dut.control.spoiled)
                await ctx.tick().repeat(rng.randrange(1, 4))
                assert (ctx.get(dut.control.loaded), ctx.get(dut.control.free)) == (1, 0)
                assert watcher.words == words_of_image(run.codes, run.channels, run.zero_point)
                if spaced:
                    apart = [b - a for a, b in zip(watcher.cycles, watcher.cycles[1:], strict=False)]
                    assert min(apart, default=Exchange.IMAGE_DISTANCE) >= Exchange.IMAGE_DISTANCE
                    assert all(watcher.roomy), "a word was begun without room"
                ctx.set(dut.control.take, 1)
                await ctx.tick()
                assert (ctx.get(dut.control.loaded), ctx.get(dut.control.free)) == (0, 1)

        return Bench(dut=dut, testbenches=[host, sequencer], background=[watcher.watch])

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("when", ["options", "waiting", "image", "loaded", "never"])
def test_a_run_is_spoiled_only_if_words_of_its_image_can_be_lost(tmp_path, when):
    def build(rng: Random) -> Bench:
        dut = reused(ImageLoader)
        first, second = Run(rng), Run(rng)
        watcher = Watcher(dut)

        async def spoil(ctx, here):
            ctx.set(dut.control.spoil, here == when)
            await ctx.tick()
            ctx.set(dut.control.spoil, 0)

        async def drive(ctx):
            for run, spoiled in ((first, when in ("image", "loaded")), (second, False)):
                ctx.set(dut.control.allowed, 0)
                ctx.set(dut.room, 1)
                await run.announce(ctx, dut)
                now = run is first
                options = len(run.words) - -(-len(run.codes) // 4)
                if now:
                    await spoil(ctx, "options")
                await send(ctx, dut.word, run.words[:options], always())
                await ctx.tick().repeat(3)
                if now:
                    await spoil(ctx, "waiting")
                ctx.set(dut.control.allowed, 1)
                await ctx.tick().repeat(2)
                if now:
                    await spoil(ctx, "image")
                await send(ctx, dut.word, run.words[options:], always())
                while not ctx.get(dut.control.loaded):
                    await ctx.tick()
                if now:
                    await spoil(ctx, "loaded")
                assert ctx.get(dut.control.spoiled) == spoiled
                ctx.set(dut.control.take, 1)
                await ctx.tick()
                ctx.set(dut.control.take, 0)

        return Bench(dut=dut, testbenches=[drive], background=[watcher.watch])

    simulate(build, seed=3, folder=tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_loaded_follows_the_last_code(tmp_path, seed):
    """With nobody waiting: a code a cycle, and so many cycles from the last one on."""

    def build(rng: Random) -> Bench:
        dut = reused(ImageLoader)
        run = Run(rng)
        cycles = []

        async def drive(ctx):
            ctx.set(dut.control.allowed, 1)
            ctx.set(dut.room, 1)
            await run.announce(ctx, dut)
            while not ctx.get(dut.control.loaded):
                cycles.append(ctx.get(dut.image.valid))
                await ctx.tick()

        async def host(ctx):
            while ctx.get(dut.control.free):
                await ctx.tick()
            await send(ctx, dut.word, run.words, always())

        def check():
            # The last code goes on one cycle before the last word is complete.
            last = len(cycles) - 1 - cycles[::-1].index(1)
            assert len(cycles) - (last - 1) == ImageLoader.LOADED_CYCLES

        return Bench(dut=dut, testbenches=[drive, host], check=check)

    simulate(build, seed=seed, folder=tmp_path)
