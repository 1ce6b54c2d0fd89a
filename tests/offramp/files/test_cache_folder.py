import re
from pathlib import Path

import pytest

from offramp.files.cache_folder import cache_root


def test_the_folder_that_is_named_comes_before_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("OFFRAMP_CACHE", raising=False)
    assert cache_root() == tmp_path / "user" / "offramp"
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "named"))
    assert cache_root() == tmp_path / "named"


def test_without_either_it_is_in_the_home_folder(tmp_path, monkeypatch):
    for name in ("OFFRAMP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_root() == tmp_path / ".cache" / "offramp"


@pytest.mark.parametrize(("variable", "said"), [("OFFRAMP_CACHE", "OFFRAMP_CACHE"), ("XDG_CACHE_HOME", "the cache")])
def test_a_file_is_refused_by_the_name_of_what_named_it(tmp_path, monkeypatch, variable, said):
    monkeypatch.delenv("OFFRAMP_CACHE", raising=False)
    place = tmp_path / "offramp"
    place.touch()
    monkeypatch.setenv(variable, str(place if variable == "OFFRAMP_CACHE" else tmp_path))
    with pytest.raises(ValueError, match=f"^{said} must be a folder, not the file {re.escape(str(place))}$"):
        cache_root()
