"""What is recorded, and where it goes."""

import json
from types import SimpleNamespace

import pytest
from pywellen import Waveform

from offramp.rtl.job import LayerTime
from offramp.rtl.waves import Waves, keep, layers_named

_VCD = """$timescale 1ps $end
$scope module offramp $end
$var wire 1 ! i__valid $end
$upscope $end
$enddefinitions $end
#0
0!
#10
1!
#20
0!
#30
1!
"""
_TIMES = [LayerTime(0, 0, 0, 5), LayerTime(0, 1, 10, 15), LayerTime(1, 0, 20, 25)]


def values(path):
    return [Waveform(str(path))["offramp.i__valid"].signal.value_at(time) for time in (0, 10, 20, 30)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dump.vcd").write_text(_VCD)
    (tmp_path / "run" / "enumerations.json").write_text(json.dumps({}))
    return tmp_path / "run"


def programs(*names):
    commands = [SimpleNamespace(name=name, layer=layer) for name, layer in names]
    return SimpleNamespace(commands=commands)


def test_a_layer_is_all_instructions_that_make_it():
    halves = ("conv2[0:8]", "conv2"), ("conv2[8:16]", "conv2")
    work = [programs(("conv1", "conv1"), *halves), programs(("conv1", "conv1"))]
    assert layers_named(work, "conv2") == {(0, 1), (0, 2)}
    assert layers_named(work, "conv2[8:16]") == {(0, 2)}
    assert layers_named(work, "conv1") == {(0, 0), (1, 0)}
    with pytest.raises(
        ValueError, match=r"^--layer must be one of conv1, conv2, conv2\[0:8\], conv2\[8:16\], not 'conv3'$"
    ):
        layers_named(work, "conv3")


def test_waveform_and_layout_go_where_they_are_told(folder, tmp_path):
    path = tmp_path / "new" / "my.fst"
    assert keep(Waves(path=path), folder, folder, _TIMES) == path
    assert values(path) == [0, 1, 0, 1]
    layout = path.with_suffix(".gtkw").read_text()
    assert f'[dumpfile] "{path}"' in layout
    assert "\nofframp.i__valid\n" in layout
    assert sorted(each.name for each in path.parent.iterdir()) == ["my.fst", "my.gtkw"]
    assert not (folder / "dump.vcd").exists()


def test_a_layer_alone_is_recorded_if_it_is_asked_for(folder, tmp_path):
    path = tmp_path / "my.fst"
    keep(Waves(path=path, layers=frozenset({(0, 1)})), folder, folder, _TIMES)
    assert values(path) == [
        None,
        1,
        1,
        1,
    ]


def test_of_a_run_that_failed_everything_is_kept(folder, tmp_path):
    path = tmp_path / "my.fst"
    keep(Waves(path=path, layers=frozenset({(0, 1)})), folder, folder, None)
    assert values(path) == [0, 1, 0, 1]


def test_a_layer_that_did_not_run_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"^--layer must name a layer that runs; of these images all leave before$"):
        keep(Waves(path=tmp_path / "my.fst", layers=frozenset({(0, 7)})), folder, folder, _TIMES)
    assert not (tmp_path / "my.fst").exists()


def test_without_a_recording_there_is_no_waveform(tmp_path):
    assert keep(Waves(path=tmp_path / "my.fst"), tmp_path, tmp_path, None) is None
    assert not (tmp_path / "my.fst").exists()


def test_by_default_each_waveform_has_a_folder_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    first, second = Waves().placed().path, Waves().placed().path
    assert first != second
    assert {first.parent.parent, second.parent.parent} == {tmp_path / "runs"}
    assert Waves(path=tmp_path / "my.fst").placed().path == tmp_path / "my.fst"
