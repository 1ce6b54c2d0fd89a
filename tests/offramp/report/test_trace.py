import pytest

from fpga.throughput import throughput
from hw.network.exits import DEFAULT
from offramp.measure.simulation import timeline_of
from offramp.report.trace import counter_events, trace_events


def core(layer: str, number: int, begin: int, rows: tuple[int, ...], pe_ends: tuple[int, ...]) -> dict:
    """A core on a layer, of the times of its rows; each PE has worked from the beginning to its end."""
    spent = {"products": tuple(end - begin for end in pe_ends), "barrier": tuple(rows[-1] - end for end in pe_ends)}
    times = {"layer": layer, "core": number, "begin": begin, "end": rows[-1], "rows": rows}
    return times | {"pe_ends": pe_ends, "pe_jobs": tuple(end - begin - 1 for end in pe_ends), "pe_spent": spent}


TIMES = [
    core("a", 0, 10, (20, 50), (40, 45)),
    core("a", 1, 10, (60,), (52, 58)),
    core("b", 0, 70, (90,), (88, 81)),
]
CYCLES = 95


def spans(found: dict, process: int, thread: int) -> list[tuple]:
    own = [each for each in found["traceEvents"] if (each["ph"], each["pid"], each["tid"]) == ("X", process, thread)]
    return [(each["name"], each["ts"], each["dur"], each["args"]) for each in own]


def test_layers_cores_and_lanes_have_their_times_in_microseconds():
    found = trace_events(TIMES, CYCLES, 50.0)
    assert spans(found, 0, 0) == [("a", 0.2, 1.0, {"from": 10, "to": 60}), ("b", 1.4, 0.4, {"from": 70, "to": 90})]
    assert [(name, own["from"], own["to"]) for name, _, _, own in spans(found, 0, 1)] == [
        ("before a", 0, 10),
        ("before b", 60, 70),
        ("result", 90, 95),
    ]
    assert spans(found, 2, 0) == [("a", 0.2, 0.8, {"from": 10, "to": 50}), ("b", 1.4, 0.4, {"from": 70, "to": 90})]
    assert spans(found, 2, 1)[:2] == [
        ("row 0", 0.2, 0.2, {"from": 10, "to": 20, "layer": "a"}),
        ("row 1", 0.4, 0.6, {"from": 20, "to": 50, "layer": "a"}),
    ]
    assert spans(found, 3, 1) == [("row 0", 0.2, 1.0, {"from": 10, "to": 60, "layer": "a"})]


def test_pes_have_what_they_did():
    found = trace_events(TIMES, CYCLES, 50.0)
    assert spans(found, 2, 2) == [
        ("a", 0.2, 0.6, {"from": 10, "to": 40, "jobs": 29, "spent": {"products": 30, "barrier": 10}}),
        ("b", 1.4, 0.36, {"from": 70, "to": 88, "jobs": 17, "spent": {"products": 18, "barrier": 2}}),
    ]
    assert [own["spent"]["barrier"] for _, _, _, own in spans(found, 2, 3)] == [5, 9]
    assert [own["to"] for _, _, _, own in spans(found, 3, 3)] == [58]


def test_the_link_brings_the_image_and_takes_the_result():
    """All of it takes as long as one image after the other does on a board."""
    board = throughput((8, 8, 1), CYCLES, clock_mhz=50.0, baud=1_000_000)
    found, alone = trace_events(TIMES, CYCLES, 50.0, board.to_dict()), trace_events(TIMES, CYCLES, 50.0)
    sent, received = board.words_sent, board.words_received
    # A word is 40 bits on the line.
    assert spans(found, 1, 0) == [
        ("image", 0.0, 40.0 * sent, {"words": sent, "bytes": 4 * sent, "baud": 1_000_000}),
    ]
    assert spans(found, 1, 1) == [
        ("result", 40.0 * sent + 1.9, 40.0 * received, {"words": received, "bytes": 4 * received, "baud": 1_000_000}),
    ]
    _, start, duration, _ = spans(found, 1, 1)[0]
    assert start + duration == pytest.approx(1e6 / board.one_by_one_images_per_second)
    later = [each["ts"] for each in found["traceEvents"] if each["ph"] == "X" and each["pid"] != 1]
    assert later == [40.0 * sent + each["ts"] for each in alone["traceEvents"] if each["ph"] == "X"]


@pytest.mark.parametrize("board", [None, throughput((8, 8, 1), CYCLES, clock_mhz=50.0, baud=9600).to_dict()])
def test_every_track_has_a_name(board):
    found = trace_events(TIMES, CYCLES, 50.0, board)
    named = {(each["pid"], each["tid"]) for each in found["traceEvents"] if each["name"] == "thread_name"}
    assert named == {(each["pid"], each["tid"]) for each in found["traceEvents"] if each["ph"] == "X"}
    processes = [each["args"]["name"] for each in found["traceEvents"] if each["name"] == "process_name"]
    assert processes == ["run", "core 0", "core 1", *(["link"] if board else [])]


def test_a_core_does_one_thing_at_a_time(small):
    times = timeline_of(small.program, small.source.test.images, 0, DEFAULT)
    found = trace_events(times, max(each["end"] for each in times), 1.0)
    tracks = {(each["pid"], each["tid"]) for each in found["traceEvents"] if each["ph"] == "X"}
    for track in tracks:
        ends = 0.0
        for _, begin, duration, _ in spans(found, *track):
            assert begin >= ends
            ends = begin + duration
    assert ends > 0


def test_a_boards_counters_end_with_the_image_and_follow_each_other():
    layers = [{"layer": "a", "cycles": 20, "products": 7}, {"layer": "b", "cycles": 10, "products": 3}]
    found = counter_events([50, 30], [layers, layers[:1]], 50.0)
    assert spans(found, 0, 0) == [
        ("image 0", 0.0, 1.0, {"from": 0, "to": 50}),
        ("image 1", 1.0, 0.6, {"from": 50, "to": 80}),
    ]
    assert spans(found, 0, 1) == [
        ("a", 0.4, 0.4, {"from": 20, "to": 40, "cycles": 20, "products": 7}),
        ("b", 0.8, 0.2, {"from": 40, "to": 50, "cycles": 10, "products": 3}),
        ("a", 1.2, 0.4, {"from": 60, "to": 80, "cycles": 20, "products": 7}),
    ]
    named = [each["args"]["name"] for each in found["traceEvents"] if each["ph"] == "M"]
    assert named == ["board", "images", "layers"]
