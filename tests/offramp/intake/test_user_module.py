import pytest
import torch

from offramp.intake.user_module import of_request
from tests.offramp.intake.models import MODULE

#: Modules with wrappers in them, and one that is called as a wrapper calls what it is around.
WITHIN = """

def compiled():
    made = net()
    made.body = torch.compile(made.body)
    return made


def in_place():
    made = net()
    made.compile()
    return made


def scripted():
    made = net()
    made.body = torch.jit.script(made.body)
    return made


def named():
    made = nn.Module()
    made.module = net()
    return made
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrappers_of_a_module_are_left_out(tmp_path):
    wrappers = (
        *("torch.compile(net())", "nn.DataParallel(net())", "torch.compile(nn.DataParallel(net()))"),
        "torch.jit.script(net())",
    )
    path = tmp_path / "wrapped.py"
    path.write_text(MODULE + "".join(f"\n\ndef make{n}():\n    return {each}\n" for n, each in enumerate(wrappers)))
    for factory in ("make0", "make1", "make2"):
        assert type(of_request(f"{path}:{factory}", None)).__name__ == "Net"
    with pytest.raises(ValueError, match=r"make3 must return the module itself, not one of torch\.jit"):
        of_request(f"{path}:make3", None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrappers_within_a_module_are_left_out(tmp_path):
    path = tmp_path / "wrapped.py"
    path.write_text(MODULE + WITHIN)
    for factory in ("compiled", "in_place"):
        found = of_request(f"{path}:{factory}", None)
        assert [type(each).__name__ for each in found.modules()] == ["Net", "Conv2d", "BatchNorm2d", "Conv2d", "Linear"]
        assert all(each._compiled_call_impl is None for each in found.modules())
    with pytest.raises(
        ValueError, match=r"^module 'body' of .*scripted must be the module itself, not one of torch\.jit"
    ):
        of_request(f"{path}:scripted", None)


def test_names_of_wrappers_in_a_file_of_weights_are_left_out(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(MODULE + WITHIN)
    plain = of_request(f"{path}:net", None)
    for n, rename in enumerate((
        "module.{}".format, "_orig_mod.module.{}".format, lambda name: name.replace(".", "._orig_mod.", 1),
    )):  # fmt: skip
        weights = tmp_path / f"{n}.pt"
        torch.save({rename(name): value + 1 for name, value in plain.state_dict().items()}, weights)
        found = of_request(f"{path}:net", weights).state_dict()
        assert all(torch.equal(found[name], value + 1) for name, value in plain.state_dict().items())
    inner = of_request(f"{path}:named", None)
    torch.save(inner.state_dict(), weights)
    assert "module.head.weight" in of_request(f"{path}:named", weights).state_dict()
