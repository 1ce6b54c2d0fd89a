import json
from dataclasses import asdict, fields

import pytest

from models import zoo
from models.attacks import pgd
from models.compression.quantize import encode
from models.datasets.splits import load as load_data
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.methods.detector import decisions, with_ranges
from models.recipes.recipe import FOLDER as RECIPES
from models.recipes.recipe import load as load_recipe

ENTRIES = zoo.entries()
#: Networks that are run in the quick tests: small ones, and the first of the README.
QUICK = ("digits", "digits-dense", "resnet8-lean")
RUN = [pytest.param(entry, id=entry.name, marks=[] if entry.name in QUICK else pytest.mark.slow) for entry in ENTRIES]


def described(name="small", part="network", **changes):
    """An entry's fields, of plausible kinds."""
    kinds = {str: "digits", int: 1, float: 0.5, str | None: "digits", int | None: 1, float | None: 0.5}
    values = {found.name: kinds[found.type] for found in fields(zoo.ZooEntry) if found.name != "sha256"}
    return {**values, "name": name, "file": "small.off", "part": part, **changes}


def test_what_is_put_in_comes_out(compressed, tmp_path):
    made = zoo.put(compressed, [described(), described("small-dense", "dense")], tmp_path)
    assert zoo.entries(tmp_path) == made
    assert zoo.entry("zoo:small-dense", tmp_path) == zoo.entry("small-dense", tmp_path) == made[1]
    for entry, expected, activity in zip(
        made,
        (compressed.network, compressed.dense),
        (compressed.activity, compressed.dense_activity),
        strict=True,
    ):
        network, found = zoo.part(entry, zoo.load(entry, tmp_path))
        assert network.to_dict() == expected.to_dict()
        assert found.keys() == activity.keys()
    zoo.put(compressed, [described(seed=9)], tmp_path)
    assert [(entry.name, entry.seed) for entry in zoo.entries(tmp_path)] == [("small", 9)]
    zoo.put(compressed, [described("other", file="other.off")], tmp_path)
    assert [entry.name for entry in zoo.entries(tmp_path)] == ["other", "small"]


def test_an_altered_file_is_refused(compressed, tmp_path):
    (entry,) = zoo.put(compressed, [described()], tmp_path)
    path = tmp_path / "small.off"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"small.off: altered: its SHA-256 must be {entry.sha256}, not "):
        zoo.load(entry, tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"small.off: cannot be read: No such file"):
        zoo.load(entry, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be the index of a zoo"),
        ("[]", "must be the index of a zoo"),
        ('{"networks": [{"name": "a"}]}', "must be the index of a zoo: network 0: method must be given"),
        ('{"networks": ["a"]}', "must be the index of a zoo"),
        ('{"networks": 3}', "must be the index of a zoo"),
        ("[" * 100_000, "must be the index of a zoo"),
    ],
)
def test_a_broken_index(tmp_path, text, message):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        zoo.entries(tmp_path)


def test_no_index(tmp_path):
    with pytest.raises(ValueError, match=r"index.json: cannot be read: No such file"):
        zoo.entries(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([described("../up")], "name and file must be of letters, digits, '-', '_' and '.', not '../up'"),
        ([described(part="half")], "small: part must be one of network, dense, not 'half'"),
        ([{"name": "small"}], "an entry of the zoo is incomplete or has unknown fields"),
        ([described(), described("b", file="b.off")], "must be of one file"),
    ],
)
def test_wrong_entries(compressed, tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        zoo.put(compressed, entries, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_name(compressed, tmp_path):
    zoo.put(compressed, [described()], tmp_path)
    with pytest.raises(ValueError, match="the zoo has small, not 'large'"):
        zoo.entry("zoo:large", tmp_path)


def test_the_index_is_as_it_is_written():
    text = (zoo.FOLDER / "index.json").read_text()
    assert json.loads(text) == {"networks": [asdict(entry) for entry in ENTRIES]}
    files = {entry.file for entry in ENTRIES}
    assert files == {path.name for path in zoo.FOLDER.glob("*.off")}
    assert all((zoo.FOLDER / file).stat().st_size < 1 << 20 for file in files)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_network_is_what_the_index_says(entry):
    network, _ = zoo.part(entry, zoo.load(entry))
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    assert entry.weights == sum(array.size for array in weights)
    assert entry.nonzero_weights == sum(int((array != 0).sum()) for array in weights)
    assert network.name.startswith(entry.dataset)
    assert load_recipe(RECIPES / f"{entry.recipe}.toml").digest() == entry.recipe_digest
    assert entry.products_share <= entry.products_share_full <= 1
    assert entry.accuracy_worst <= min(entry.accuracy_pgd20, entry.accuracy_clean)
    if entry.routed_worst is not None:
        assert entry.routed_cycles < entry.routed_worst <= entry.routed_bound
        assert entry.routed_cycles <= entry.routed_back_to_back


@pytest.mark.parametrize("entry", RUN)
def test_networks_flag_what_their_recipe_says(entry, data_root):
    """A network whose recipe gives its exits ranges has those of its validation data, and flags clean test images about
    as often as said, attacked ones more than twice as often; another one has none, and flags nothing.
    """
    network, _ = zoo.part(entry, zoo.load(entry))
    rate = load_recipe(RECIPES / f"{entry.recipe}.toml").flagged
    if not rate or entry.part == "dense":
        assert all((head.low, head.high) == (0, (1 << 32) - 1) for head in network.exits)
        assert entry.flagged == 0
        return
    dataset = load_data(entry.dataset, data_root)
    assert with_ranges(network, encode(dataset.validation.images, network), rate).to_dict() == network.to_dict()
    assert entry.flagged == pytest.approx(rate, rel=0.5)
    few = dataset.test.take(200)
    assert decisions(network, encode(few.images, network)).out_of_range.mean() == pytest.approx(rate, rel=0.5)
    changed = pgd(Surrogate(network), few.images, few.labels, eps=entry.eps, steps=20, seed=entry.seed)
    assert decisions(network, encode(changed, network)).out_of_range.mean() > 2 * rate


@pytest.mark.parametrize("entry", RUN)
def test_accuracy_of_the_first_images_is_the_recorded_one(entry, data_root):
    network, _ = zoo.part(entry, zoo.load(entry))
    few = load_data(entry.dataset, data_root).test.take(entry.first)
    assert golden.run(network, encode(few.images, network), keep=False).accuracy(few.labels) == entry.accuracy_first
