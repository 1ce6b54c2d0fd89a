import random
import re

import numpy as np
import pytest

from fpga.baud import QUEUE_WORDS
from fpga.host.noise import NoisyPort
from fpga.host.serial_link import LinkError
from fpga.host.session import BoardSession
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.program.bundle import bundle_of
from tests.fpga.host.fake_board import BAUD, FakeBoard
from tests.random_networks import random_network

_NETWORK = 406
_IMAGES = 12


@pytest.fixture(scope="module")
def bundle():
    return bundle_of([compile_network(random_network(_NETWORK), preset("tiny"))])


@pytest.fixture(scope="module")
def codes():
    """Longer than the queue in front of the accelerator; the board that is played takes any."""
    return np.random.default_rng(1).integers(-128, 128, (_IMAGES, 10, 10, 1), dtype=np.int8)


@pytest.fixture(scope="module")
def results():
    """What the board is given to say."""
    return [{"label": n % 7, "exit": n % 2, "margin": 50 * n, "cycles": 1000 + n} for n in range(_IMAGES)]


@pytest.fixture
def board(bundle, codes, results):
    return FakeBoard(bundle, codes, results)


@pytest.fixture
def session(bundle, board):
    """Makes a session on the board."""

    def made(connect=None, **options):
        return BoardSession(
            connect or board.connect,
            bundle,
            **{"clock_mhz": 50.0, "baud": BAUD, "busy": 100_000, "time": board.time} | options,
        )

    return made


def reported(outcomes):
    return [{"label": o.label, "exit": o.exit, "margin": o.margin, "cycles": o.cycles} for o in outcomes]


def expecting(results):
    """What tells a right outcome."""
    return lambda number, outcome: reported([outcome]) == [results[number]]


def work(codes):
    return [(0, image) for image in codes]


def test_images_run_back_to_back_on_a_board_that_is_loaded_once(session, board, codes, results):
    counts = []
    with session() as found:
        assert reported(found.run(work(codes), done=counts.append)) == results
        assert reported(found.run(work(codes[:3]))) == results[:3]
        assert found.mended == []
    assert counts == list(range(1, _IMAGES + 1))
    assert (board.breaks, board.loads, board.opened) == (1, 1, 1)


def test_no_word_is_sent_that_the_queue_has_no_room_for(session, board, codes, results):
    """A board that is at work long takes 16 words meanwhile; a host that thinks it quick loses some."""
    board.run_time = 0.002
    with session() as found:
        assert reported(found.run(work(codes))) == results
    assert board.lost == 0
    assert found.mended == []
    with session(busy=1) as found:
        assert reported(found.run(work(codes), expected=expecting(results))) == results
    assert board.lost > 0
    assert found.mended


def test_all_is_sent_at_once_to_a_board_that_can_hold_the_host_back(session):
    with session() as slow, session(held=True) as quick:
        assert (slow._ahead, quick._ahead) == (QUEUE_WORDS, None)


def test_more_images_than_are_handed_over_at_once(session, codes, results):
    many = [n % _IMAGES for n in range(150)]
    with session(busy=1) as found:
        assert reported(found.run(work(codes[many]))) == [results[n] for n in many]


@pytest.mark.parametrize("seed", range(8))
def test_noise_changes_nothing_where_results_are_known(session, board, codes, results, seed):
    ports = []

    def connect():
        ports.append(NoisyPort(board.connect(), 3e-4, random.Random(seed)))
        return ports[-1]

    with session(connect, tries=100) as found:
        assert reported(found.run(work(codes), expected=expecting(results))) == results
    assert bool(found.mended) == bool(sum(port.hits for port in ports))


def test_noise_that_lets_nothing_through_ends_in_a_sentence(session, board, codes):
    with pytest.raises(LinkError, match=r"^loading: .*; given up after 5 failures in a row$"):
        with session(lambda: NoisyPort(board.connect(), 0.02, random.Random(1))) as found:
            found.run(work(codes))
    assert board.breaks >= 5
    assert board.time.now() < 60


def test_a_reset_in_the_middle_costs_no_image(session, board, codes, results):
    notes = []
    with session(note=notes.append) as found:
        runs = found.run(work(codes), done=lambda count: board._reset() if count == 5 else None)
        assert reported(runs) == results
        assert found.mended == notes
    assert len(notes) == 1
    assert notes[0].startswith("image 6 of 12: the board must answer within ")
    assert board.loads == 2


def test_a_port_that_is_gone_and_comes_back_goes_on_with_the_image_under_way(session, board, codes, results):
    with session() as found:
        runs = found.run(work(codes), done=lambda count: board.unplug(10) if count == 7 else None)
        assert reported(runs) == results
    assert [re.sub(":.*", "", text) for text in found.mended] == ["image 8 of 12"]
    assert (board.opened, board.loads) == (2, 2)
    assert board.time.now() > 10


def test_a_port_that_stays_away_ends_in_a_sentence(session, board, codes, results):
    with session(away=5.0) as found:
        with pytest.raises(LinkError, match=r"^fake: the port must be there; it was away for 5 s$"):
            found.run(work(codes), done=lambda count: board.unplug(100) if count == 7 else None)
        board.away_until = 0.0
        assert reported(found.run(work(codes))) == results
    board.away_until = board.time.now() + 1
    begun = board.time.now()
    with pytest.raises(LinkError, match=r"^fake: the port must be there$"), session():
        pass
    assert board.time.now() == begun


@pytest.mark.parametrize("kind", ["silent", "babbling"])
def test_a_board_that_makes_no_sense_ends_in_a_sentence(session, board, kind):
    setattr(board, kind, True)
    sentence = "must answer within .* s, and says nothing" if kind == "silent" else "must fall silent, but it goes on"
    with pytest.raises(LinkError, match=sentence), session():
        pass
    assert board.time.now() < 60


@pytest.mark.parametrize(
    ("indexes", "said"),
    [
        ((0, 0), "must report of a layer after 0, not of 0"),
        ((0, 60_000), "must report of layers below 4, not of 60000"),
    ],
)
def test_a_board_that_reports_of_layers_that_cannot_be_ends_in_a_sentence(session, board, codes, indexes, said):
    counters = {"cycles": 1, "products": 1, "stalls": 1, "waited": 0}
    board.counters = [[{"index": index} | counters for index in indexes]] * _IMAGES
    with session() as opened, pytest.raises(LinkError, match=f"^image 1 of 12: the .*{said}; given up after 5"):
        opened.run(work(codes), report=True)


def test_a_board_of_another_config_is_refused(session, board):
    board.digest ^= 1
    with pytest.raises(LinkError, match="the board must have the config that the program is for, "), session():
        pass


def test_an_unexpected_result_is_asked_for_again_and_believed_the_second_time(session, board, codes, results):
    board.wrong = {3: [9], 5: [8, 8]}
    with session() as found:
        labels = [outcome.label for outcome in found.run(work(codes), expected=expecting(results))]
    right = [each["label"] for each in results]
    assert labels == [*right[:5], 8, *right[6:]]
    assert [text.partition(":")[0] for text in found.mended] == ["image 4 of 12", "image 6 of 12"]


def test_a_board_that_is_wrong_is_not_asked_twice_for_ever(session, codes):
    with session() as found:
        outcomes = found.run(work(codes), expected=lambda number, outcome: False)
    assert (len(outcomes), len(found.mended)) == (_IMAGES, 3)


def test_an_error_of_the_host_leaves_the_board_reset(session, board, codes):
    with pytest.raises(KeyError), session() as found:
        found.run(work(codes), done=lambda count: {}["gone"])
    assert board.breaks == 2
    assert not board._loaded


def test_results_of_a_damaged_image_are_not_told_from_others_without_expectation(session, board, codes):
    """The protocol checks no image: who knows the result must say so."""
    board.wrong = {0: [200]}
    with session() as found:
        assert found.run(work(codes))[0].label == 200
        assert found.mended == []
