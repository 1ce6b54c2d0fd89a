import pytest

from offramp.intake.user_module import of_request
from tests.offramp.intake.models import MODULE


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
