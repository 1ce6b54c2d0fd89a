import pytest

from models.datasets.splits import NAMES, SHAPES
from models.datasets.splits import load as load_data
from models.recipes import checkpoint
from models.recipes.recipe import FOLDER, builtin, check, load

RECIPES = sorted(path.name for path in FOLDER.glob("*.toml"))
#: The least that a recipe says.
LEAST = """
name = "small"
data = "digits"
[architecture]
kind = "residual"
widths = [4, 8]
branch_width = 0
[[train]]
epochs = 1
lr = 0.1
[[compress]]
epochs = 2
lr = 0.1
pieces = [{kind = "magnitude-pruning", density = 0.5}]
[quantize]
epochs = 1
lr = 0.1
[[integer]]
kind = "thresholds"
densities = {"late.first.conv" = 0.5}
"""


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_what_a_file_says(tmp_path):
    found = load(written(tmp_path, LEAST))
    assert (found.name, found.data, found.config, found.train_images) == ("small", "digits", "single", 0)
    assert found.network_architecture.shape == (8, 8, 1)
    assert [stage.name for stage in (*found.train, *found.compress, found.quantize, found.dense)] == [
        "train 1", "compress 1", "quantize", "quantize unpruned",
    ]  # fmt: skip
    assert found.dense.schedule == found.quantize.schedule
    assert found.compress[0].pieces == ({"kind": "magnitude-pruning", "density": 0.5},)
    check(found)
    again = load(written(tmp_path, LEAST.replace("density = 0.5", "density = 0.6")))
    assert load(written(tmp_path, LEAST)).digest() == found.digest() != again.digest()
    assert load(written(tmp_path, LEAST.replace("epochs = 2", "epochs = 2\nshift = 0"))).digest() == found.digest()
    assert load(written(tmp_path, LEAST.replace("epochs = 2", "epochs = 2\nshift = 1"))).digest() != found.digest()


def test_the_config_is_no_part_of_what_the_network_depends_on(tmp_path):
    one, other = (load(written(tmp_path, f'config = "{name}"\n{LEAST}')) for name in ("tiny", "base-85f"))
    assert (one.config, other.config) == ("tiny", "base-85f")
    assert one.digest() == other.digest() == load(written(tmp_path, LEAST)).digest()


def test_a_config_that_is_gone_is_refused_with_what_replaces_it(tmp_path):
    with pytest.raises(ValueError, match=r"recipe\.toml: .*config base is gone: .*; base-85f has as many multipliers"):
        load(written(tmp_path, f'config = "base"\n{LEAST}'))


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_has_one_for_the_demo(name):
    assert builtin(name).data == name
    assert builtin(name).name == name
    check(builtin(name))


def test_a_recipe_of_a_float_network_only(tmp_path):
    found = load(written(tmp_path, LEAST.partition("[[compress]]")[0]))
    assert (found.compress, found.quantize, found.dense, found.integer_stages) == ((), None, None, ())
    check(found)


def test_a_teacher_lies_beside_the_recipe(tmp_path, trained):
    """Where both lie doesn't change what the recipe says."""
    text = LEAST.replace('data = "digits"', 'data = "digits"\nteacher = "large.off"')
    digests = set()
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        checkpoint.save(folder / "large.off", trained)
        found = load(written(folder, text))
        assert found.teacher == str(folder / "large.off")
        check(found)
        digests.add(found.digest())
    assert len(digests) == 1
    assert load(written(tmp_path, LEAST)).digest() not in digests


def test_unknown_data():
    with pytest.raises(ValueError, match="data must be one of digits, fashion-mnist, cifar10, not 'mnist'"):
        builtin("mnist")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_followed(name, data_root):
    found = load(FOLDER / name)
    assert found.name == name.removesuffix(".toml")
    assert found.about or found.name in NAMES
    check(found, data_root)


def test_shapes_are_the_data_sets():
    """Those of the official sets are compared where these are read."""
    dataset = load_data("digits")
    assert (dataset.shape, len(dataset.classes)) == SHAPES["digits"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "small"', "name = small", "must be TOML"),
        ('name = "small"', 'name = "a/b"', "name must be of letters, digits, '-', '_' and '.', not 'a/b'"),
        ('name = "small"', "", "name must be given"),
        ('data = "digits"', 'data = "mnist"', "data must be one of digits, fashion-mnist, cifar10, not 'mnist'"),
        ('data = "digits"', 'data = "digits"\nlr = 1', "'lr' is unknown: keys are name, data"),
        ('data = "digits"', 'data = "digits"\nconfig = "huge"', "huge"),
        ('data = "digits"', 'data = "digits"\nexit_loss = 2', "exit_loss must be in 0..1, not 2"),
        ('data = "digits"', 'data = "digits"\nflagged = 1.5', "flagged must be in 0..1, not 1.5"),
        ('data = "digits"', 'data = "digits"\ntrain_images = -1', "train_images must not be negative, not -1"),
        ('data = "digits"', 'data = "digits"\ntrain_images = "all"', "train_images must be a whole number, not 'all'"),
        ('kind = "residual"', 'kind = "vgg"', "architecture's kind must be one of residual, resnet8, .*not 'vgg'"),
        ("branch_width = 0", "branches = 0", "architecture: 'branches' is unknown: settings are shape"),
        ("[[train]]", "[train]", "train must be a list of tables"),
        ("[quantize]", "[quantise]", "'quantise' is unknown"),
        ("[[train]]\nepochs = 1\nlr = 0.1", "", r"without a start must have a \[\[train\]\] stage"),
        ("epochs = 2", "epochs = 0", "compress 'compress 1': epochs must be positive, not 0"),
        ("epochs = 2", "epoch = 2", "compress 'compress 1': 'epoch' is unknown: settings are epochs, lr"),
        ("epochs = 2", 'name = "train 1"\nepochs = 2', "names of stages must differ, not both be 'train 1'"),
        ("epochs = 2", "shift = 8\nepochs = 2", "compress 1: shift must be below the 8 pixels of .* side, not 8"),
        ("epochs = 2", "name = 3\nepochs = 2", "compress: name must be a text, not 3"),
        (
            "density = 0.5}",
            "density = 1.5}",
            "'magnitude-pruning': density must be above 0 and at most 1, not 1.5",
        ),
        ("density = 0.5}", "densty = 0.5}", "piece 'magnitude-pruning': 'densty' is unknown: settings are density"),
        ("magnitude-pruning", "pruning", "stage 'compress 1', piece: kind must be one of activation-penalty"),
        ('kind = "thresholds"', 'kind = "threshold"', "integer: kind must be one of thresholds.*, not 'threshold'"),
        ("[[train]]", "[start]\n[[train]]", "either weights or checkpoint must be given, not both or neither"),
        ("[[train]]", '[start]\nweights = "my"\n[[train]]', "weights must be official, not 'my'"),
        ("[[train]]", '[start]\nweights = "official"\n[[train]]', "official weights are of kind resnet8, not residual"),
        ("[[train]]", '[start]\ncheckpoint = "none.off"\n[[train]]', "none.off: cannot be read"),
        ("[quantize]\nepochs = 1\nlr = 0.1", "", r"quantize must be given where there is \[\[compress\]\]"),
        ('data = "digits"', 'data = "digits"\nteacher = "none.off"', "none.off: cannot be read"),
        ('data = "digits"', 'data = "digits"\nteacher = 3', "teacher must be a text, not 3"),
        ("epochs = 2", "views = -1\nepochs = 2", "compress 'compress 1': views must not be negative, not -1"),
        (
            '"magnitude-pruning", density = 0.5',
            '"whitening"',
            "whitening is of a network of kind whitened",
        ),
        ("[quantize]", "[dense]\n[quantize]", "dense 'quantize unpruned': epochs must be given"),
        ("[architecture]", "quantize = 3\n[architecture]", "must be TOML"),
        ("widths = [4, 8]", "widths = [1000000000, 8]", "widths must be 2 whole numbers from 1 to 4088"),
        ("widths = [4, 8]", "widths = [4, 1979-05-27]", "widths must be a whole number, not datetime.date"),
        ("widths = [4, 8]", "widths = [4, nan]", "widths must be a whole number, not nan"),
        ("density = 0.5}", "density = 0.5, least = {'stem.conv.weight' = inf}}", "least.* must be a finite number"),
        ("density = 0.5}", "density = 0.5, least = {'stem.conv.weight' = 2}}", "lowest density of stem.* not 2"),
        ("density = 0.5}", "density = 1979-05-27}", "density must be a number, not datetime.date"),
        ('"magnitude-pruning"', '["zeros"]', r"piece: kind must be one of .*, not \['zeros'\]"),
        ('{"late.first.conv" = 0.5}', '{"late" = 0.5}', "'thresholds': threshold of 'late': there is no layer"),
        ('{"late.first.conv" = 0.5}', '{"late.first.conv" = 2}', "density of late.first.conv must be in 0..1, not 2"),
        ("lr = 0.1", "lr = 0x" + "f" * 6000, "lr must be a finite number, not a number of too many digits"),
        ("lr = 0.1", "lr = " + "9" * 6000, "must be TOML"),
        ("lr = 0.1", "lr = " + "[" * 5000, "must be TOML"),
        ('name = "small"', '"\\u0000" = 1\nname = "small"', r"'\\x00' is unknown"),
        ("[[train]]", '[start]\ncheckpoint = "a\\u0000"\n[[train]]', "checkpoint must be a text of characters"),
    ],
)
def test_wrong(tmp_path, old, new, message):
    assert old in LEAST
    with pytest.raises(ValueError, match=message):
        check(load(written(tmp_path, LEAST.replace(old, new, 1))))


def test_unreadable_files(tmp_path):
    with pytest.raises(ValueError, match=r"none.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"binary.toml: must be a text in UTF-8"):
        load(tmp_path / "binary.toml")


def test_huge_files(tmp_path):
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"huge.toml: must be at most 1,048,576 bytes"):
        load(path)
