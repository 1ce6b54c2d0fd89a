from pathlib import Path

from typer._coercion import build_runtime_param

from offramp import cli
from tests.offramp.command_line import run


def parameters():
    """Every parameter that a command or group has."""
    line = cli.command_line()
    context = line.make_context("offramp", [], resilient_parsing=True)
    for command in (line, line.commands["board"], line.commands["exit"], *cli.commands().values()):
        yield from command.get_params(context)


def test_values_become_what_typer_makes_of_them_with_pydantic():
    seen = set()
    for parameter in parameters():
        typers = build_runtime_param(parameter.type_descriptor)
        text = (["x/y", "7"],) if parameter.multiple or parameter.nargs == -1 else ("x/y", "7", "")
        flag = parameter.type_descriptor.annotation is bool
        if not flag and isinstance(typers.coerce(text[0], parameter, None), Path):
            text = text[:2]  # an empty path is refused, which would be the current folder
        for value in (None, parameter.default, *((True, False) if flag else text)):
            ours, wanted = (each.coerce(value, parameter, None) for each in (parameter.get_runtime_param(), typers))
            assert (ours, type(ours)) == (wanted, type(wanted)) or (not ours and wanted == ())
            seen.add(type(ours))
    assert seen == {type(None), bool, str, list, type(Path())}


def test_commands_are_made_once_and_all_of_them_are_shown():
    line = cli.command_line()
    assert line.commands["info"] is line.commands["info"]
    text, code = run("--help")
    assert code == 0
    assert all(f"│ {name} " in text for name in line.commands)


def test_a_name_that_is_nearly_a_command_is_answered_with_that():
    text, code = run("simulat")
    assert code == 2
    assert "Did you mean 'simulate'?" in text


def test_help_names_types_in_words_and_none_of_flags():
    for name in ("verify", "bench", "zoo"):
        text = run(name, "--help")[0]
        assert not [kind for kind in ("<bool>", "<str>", "list[") if kind in text]
    assert "<text>" in run("bench", "--help")[0]
    assert "models...      <path>" in run("verify", "--help")[0]


def test_paragraphs_of_help_have_no_line_breaks_of_the_source():
    for found in cli.commands().values():
        assert not [paragraph for paragraph in found.help.split("\n\n") if "\n" in paragraph]
    assert cli.commands()["verify"].help.count("\n\n") == 1
