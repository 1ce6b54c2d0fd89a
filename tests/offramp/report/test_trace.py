from hw.network.exits import DEFAULT
from offramp.measure.simulation import timeline_of
from offramp.report.trace import counter_events, trace_events

TIMES = [
    {"layer": "a", "core": 0, "begin": 10, "end": 50, "rows": (20, 50)},
    {"layer": "a", "core": 1, "begin": 10, "end": 60, "rows": (60,)},
    {"layer": "b", "core": 0, "begin": 70, "end": 90, "rows": (90,)},
]


def spans(found: dict, process: int, thread: int) -> list[tuple]:
    own = [each for each in found["traceEvents"] if (each["ph"], each["pid"], each["tid"]) == ("X", process, thread)]
    return [(each["name"], each["ts"], each["dur"], each["args"]) for each in own]


def test_layers_cores_and_lanes_have_their_times_in_microseconds():
    found = trace_events(TIMES, 50.0)
    assert spans(found, 0, 0) == [("a", 0.2, 1.0, {"from": 10, "to": 60}), ("b", 1.4, 0.4, {"from": 70, "to": 90})]
    assert [(name, own["from"], own["to"]) for name, _, _, own in spans(found, 0, 1)] == [
        ("before a", 0, 10),
        ("before b", 60, 70),
    ]
    assert spans(found, 1, 0) == [("a", 0.2, 0.8, {"from": 10, "to": 50}), ("b", 1.4, 0.4, {"from": 70, "to": 90})]
    assert spans(found, 1, 1)[:2] == [
        ("row 0", 0.2, 0.2, {"from": 10, "to": 20, "layer": "a"}),
        ("row 1", 0.4, 0.6, {"from": 20, "to": 50, "layer": "a"}),
    ]
    assert spans(found, 2, 1) == [("row 0", 0.2, 1.0, {"from": 10, "to": 60, "layer": "a"})]


def test_every_track_has_a_name():
    found = trace_events(TIMES, 50.0)
    named = {(each["pid"], each["tid"]) for each in found["traceEvents"] if each["name"] == "thread_name"}
    assert named == {(each["pid"], each["tid"]) for each in found["traceEvents"] if each["ph"] == "X"}
    processes = [each["args"]["name"] for each in found["traceEvents"] if each["name"] == "process_name"]
    assert processes == ["run", "core 0", "core 1"]


def test_a_core_does_one_thing_at_a_time(small):
    times = timeline_of(small.program, small.source.test.images, 0, DEFAULT)
    found = trace_events(times, 1.0)
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
