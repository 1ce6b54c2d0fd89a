"""Programs that would run, but compute something else than the network that they carry."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import Add
from hw.network.selection import Select
from hw.program.check.equivalence import check_equivalence
from hw.program.isa import Entry, Opcode
from hw.program.list_memory import unpack_pointers
from hw.program.program import Program
from tests.fuzzing import changed_image
from tests.hw.changes import Changes, put
from tests.hw.machine import Machine
from tests.hw.networks import pooled, runnable
from tests.hw.partitions import only
from tests.random_networks import random_codes, random_network, with_selects

TINY = preset("tiny").replace(accumulator_bits=32)
WEIGHT = Entry.fields["weight"].bits
#: What is refused before it is compared: it would do harm.
ANY = r"^(command|layer) \d"
STEM, EARLY, INNER, SUM, MEAN, HIDDEN, HEAD = range(7)


@pytest.fixture(scope="module")
def program() -> Program:
    """A list for each kernel row, so that a row may have several."""
    with pytest.MonkeyPatch.context() as patch:
        only(patch, merged=False, column_major=False)
        return compile_network(runnable(), TINY)


@pytest.fixture(scope="module")
def good(program) -> Changes:
    return Changes(program)


def pointed(program: Program, pe: int = 0) -> int:
    """Where the first entry of the first list of a PE stands that has one."""
    words = program.images["lists"][pe].astype(np.int64)
    starts, counts = unpack_pointers(words, program.config)
    return int(starts[np.flatnonzero(counts)[0]])


def refused(program: Program, images: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(program, images=images)


def test_a_weight_of_another_value(program, good):
    place = 0, pointed(program)
    images = good.image("lists", put(place, int(program.images["lists"][place]) ^ 4))
    refused(program, images, r"^command \d: core 0: its lists must hold the weights of the network, each once$")


def test_a_product_that_goes_to_another_accumulator(program, good):
    place = 0, pointed(program)
    images = good.image("lists", put(place, int(program.images["lists"][place]) ^ (1 << WEIGHT)))
    refused(program, images, ANY)


def test_lists_that_change_places(program, good):
    words = program.images["lists"][0]
    images = good.image("lists", put((0, [0, 1]), words[[1, 0]]))
    refused(program, images, r"^command 0: core 0: its lists must hold the weights of the network")


@pytest.mark.parametrize("name", ["bias", "multiplier", "shift"])
def test_other_channel_parameters(program, good, name):
    images = good.image(name, put((0, 1), int(program.images[name][0, 1]) ^ 1))
    refused(program, images, rf"^command 0: core 0: {name} of its channels must be those of stem$")


@pytest.mark.parametrize("factor", ["first", "second", "output"])
@pytest.mark.parametrize("field", ["multiplier", "shift"])
def test_another_factor_of_a_sum(program, good, factor, field):
    scale = getattr(good.layers[SUM].cores[0].residual, factor)
    changed = replace(scale, **{field: getattr(scale, field) ^ 1})
    refused(program, good.layer(SUM, "residual", **{factor: changed}), "its residual operand must be .*, not")


@pytest.mark.parametrize(
    ("number", "part", "field", "message"),
    [
        (SUM, "lane", "offset", "lanes must have .*, not"),
        (HIDDEN, "lane", "clamp_high", "lanes must have .*, not"),
        (SUM, "lane", "clamp_high", "lanes must have .*, not"),
        (STEM, "lane", "double", "lanes must have .*, not"),
        (EARLY, "lane", "classes", "lanes must have .*, not"),
        (SUM, "residual", "zero_point", "its residual operand must be .*, not"),
        (SUM, "residual", "offset", "its residual operand must be .*, not"),
        (SUM, "residual", "clamp_low", "its residual operand must be .*, not"),
        (STEM, "source", "first_dump", ANY),
        (STEM, "source", "accumulator_step", ANY),
        (STEM, "source", "list_step", ANY),
        (STEM, "source", "row_pitch", ANY),
    ],
)
def test_a_field_with_another_bit(program, good, number, part, field, message):
    value = getattr(getattr(good.layers[number].cores[0], part), field)
    refused(program, good.layer(number, part, **{field: value ^ 1}), message)


def test_a_sum_that_is_not_added(program, good):
    images = good.layer(SUM, "residual", enable=0)
    refused(program, images, r"command 3: core 0: it must add an operand for an add, and only then")


@pytest.mark.parametrize("operand", [0, 1])
def test_a_sum_of_a_map_and_itself(program, operand):
    """The network says so, the program adds another map."""
    (add,) = (layer for layer in program.network.layers if isinstance(layer, Add))
    twice = replace(add, inputs=(add.inputs[operand],) * 2)
    layers = tuple(twice if layer is add else layer for layer in program.network.layers)
    with pytest.raises(ValueError, match=r"^command \d|^branch must be written before it is read$"):
        replace(program, network=replace(program.network, layers=layers))


@pytest.mark.parametrize(
    ("table", "place", "field"),
    [("row", 1, "list"), ("row", 1, "accumulator"), ("row", 2, "final"), ("column", 1, "list"), ("column", 0, "dumps")],
)
def test_another_table(program, good, table, place, field):
    entries = getattr(good.layers[STEM].cores[0], f"{table}s")
    value = getattr(entries[place], field)
    refused(program, getattr(good, table)(STEM, place, **{field: value ^ 1}), ANY)


def test_a_map_in_the_place_of_another():
    """A layer's map lies where its input does, through an equal window, and then that is read again."""
    program = compile_network(runnable(), TINY)
    changes = Changes(program)
    stem = changes.layers[STEM].cores[0].window
    inner = next(n for n, command in enumerate(program.commands) if command.tensor == "inner")
    images = changes.layer(inner, "window", **stem.values())
    refused(program, images, ANY)


def test_what_was_not_selected_for_a_layer_itself():
    """The other checks see that a layer's first command has its SELECT, not what was selected since."""
    network = runnable({"stem": {"select": Select(kind="elements", count=7)}})
    program = compile_network(network, TINY)
    instructions = tuple(i for i in program.decoded.instructions if i.op is not Opcode.SELECT)
    decoded = replace(program.decoded, instructions=instructions)
    check_equivalence(network, program.packed, TINY, program.commands, program.decoded, program.images)
    with pytest.raises(ValueError, match=r"^command 0: what stem selects must not be what None has selected$"):
        check_equivalence(network, program.packed, TINY, program.commands, decoded, program.images)


def test_a_max_pool_that_adds_up():
    program = compile_network(pooled(-128, -128), TINY)
    changes = Changes(program)
    number = next(n for n, layer in enumerate(changes.layers) if layer.cores[0].source.max_pool)
    refused(program, changes.layer(number, "source", max_pool=0), "depthwise and max_pool must be")


def outcomes(images: dict[str, np.ndarray], config: AcceleratorConfig, codes: np.ndarray) -> list[tuple]:
    """What a machine says of images, and the values of all its layers."""
    found = []
    for image in codes:
        ran = Machine(images, config, compiled=False).run(image)
        values = [layer.values.tolist() for layer in ran.layers]
        found.append((ran.exit, ran.label, ran.margin, ran.out_of_range, values))
    return found


CONFIGS = [
    TINY,
    TINY.replace(cores=2),
    AcceleratorConfig(
        cores=2,
        pes=4,
        list_words=256,
        accumulators=128,
        activation_words=128,
        loader=1,
        accumulator_bits=32,
        selector=1,
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["one core", "two cores", "streamed"])
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_what_is_accepted_computes_the_same(config, count):
    """One word of the images changed, with checksums that fit."""
    made = []
    for seed in range(100):
        try:
            network = with_selects(random_network(seed, size=5), np.random.default_rng(seed))
            program = compile_network(network, config)
        except ValueError:
            continue
        codes = random_codes(network, 3, seed)
        made.append((program, codes, outcomes(program.images, config, codes)))
        if len(made) == 3:
            break
    rng, accepted = np.random.default_rng(count), 0
    for _ in range(count):
        program, codes, wanted = made[rng.integers(len(made))]
        images, what = changed_image(program.images, rng)
        try:
            changed = replace(program, images=images)
        except ValueError:
            continue
        accepted += 1
        assert outcomes(changed.images, config, codes) == wanted, what
    assert 0 < accepted < count * 3 // 4
