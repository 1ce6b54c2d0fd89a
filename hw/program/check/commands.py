"""What commands say of their instructions is true of the network: rows, channels, cores, selections, decisions."""

from collections.abc import Sequence

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.base_layer import Layer
from hw.network.layers import is_raw, threshold_of
from hw.network.network import INPUT, Add, Network
from hw.network.zero_points import storage_zero_points
from hw.program.check.select import check_selection, check_use
from hw.program.command import Command
from hw.program.decode import Decoded
from hw.program.instructions import Instruction, SourceFields, WindowFields
from hw.program.isa import NUMBERS, Opcode
from hw.rules import shown

__all__ = ["check_commands"]


def check_commands(network: Network, config: AcceleratorConfig, commands: Sequence[Command], decoded: Decoded) -> None:
    """Refuse commands that don't say what the instructions do of the network.

    Parameters
    ----------
    network : Network
        On the image as words hold it (:func:`hw.program.check.image_shape.packed_as`).
    decoded : Decoded
        A runnable program (:func:`hw.program.check.images.check_images`).

    Raises
    ------
    ValueError
        Naming the command, the rule and the value.
    """
    layers = decoded.layers
    if len(layers) != len(commands):
        raise ValueError(f"program image holds {len(layers)} layers, its description {len(commands)}")
    zero_points = storage_zero_points(network)
    tensors = network.tensors()
    order = list(dict.fromkeys(command.layer for command in commands))
    wanted = [layer.name for layer in network.layers if not isinstance(layer, Add)]
    if order != wanted:
        raise ValueError(f"commands must be of the layers {', '.join(wanted)}, not {', '.join(order)}")
    windows = {INPUT: decoded.windows}
    selections = {instruction.index: instruction for instruction in decoded.instructions if instruction.selections}
    seen: set[str] = set()
    for number, (command, instruction) in enumerate(zip(commands, layers, strict=True)):
        layer, selection = network.layer(command.layer), selections.get(instruction.index)
        source = layer.inputs[0]
        if command.layer not in seen or selection is not None:
            check_selection(f"command {number}", layer, tensors[source], selection, windows[source], config)
        seen.add(command.layer)
        _check_command(f"command {number}", network, config, command, instruction, windows[source], zero_points)
        windows[command.tensor] = tuple(core.window for core in instruction.cores)
    names = [command.name for command in commands]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names of commands must be different, not {shown(twice)} of several")
    _check_decisions(network, commands, decoded.instructions)


def _check_command(
    where: str,
    network: Network,
    config: AcceleratorConfig,
    command: Command,
    instruction: Instruction,
    windows: tuple[WindowFields, ...],
    zero_points: dict[str, int],
) -> None:
    """A command says of its instruction what is true of the network; ``windows`` are of the map that it reads."""
    layer, result = network.layer(command.layer), network.layer(command.tensor).output
    edges = [row for band in command.rows for row in band]
    empty = any(start == end for start, end in command.rows)
    if sorted(edges) != edges or empty or not 0 <= edges[0] <= edges[-1] <= result.shape[0]:
        raise ValueError(
            f"{where}: rows of bands must be in order within {command.tensor}'s 0..{result.shape[0]}, "
            f"not {command.rows}"
        )
    first, last = command.channels
    if not 0 <= first < last <= result.shape[2] or first % WORD_CHANNELS:
        raise ValueError(
            f"{where}: channels must be within {command.tensor}'s 0..{result.shape[2]} and begin at a multiple of "
            f"{WORD_CHANNELS}, not {first}..{last}"
        )
    if command.layer != command.tensor and command.layer not in network.layer(command.tensor).inputs:
        raise ValueError(f"{where}: {command.layer} does not make {command.tensor}")
    if command.bands * command.groups > config.cores:
        raise ValueError(
            f"{where}: {command.bands} bands of {command.groups} groups must be at most the {config.cores} cores"
        )
    tiles = command.tiles()
    working = [*instruction.working]
    if working != [tile.core for tile in tiles]:
        raise ValueError(f"{where}: cores {working} work, of {command.bands} bands of {command.groups} groups")
    depth = config.padded_channels(result.shape[2]) // WORD_CHANNELS
    raw = is_raw(layer) and not command.partial
    for tile in tiles:
        core = instruction.cores[tile.core]
        lane, target = core.lane, core.target
        words, rows = tile.words[1] - tile.words[0], tile.rows[1] - tile.rows[0]
        channels = words * WORD_CHANNELS
        outputs, made = rows * result.shape[1] * channels, tile.rows[0] * result.shape[1] * depth + tile.words[0]
        pitches, columns = (result.shape[1] * depth, depth), result.shape[1]
        if command.column_major:
            pitches, columns = (depth, result.shape[1] * depth), rows
        if command.partial:
            outputs, made, columns = channels, NUMBERS - words, 1
        found = [lane.outputs, lane.channels, lane.raw, target.zero_point]
        found += [target.first, target.row_pitch, target.column_pitch, target.columns, target.words]
        zero_point = target.zero_point if raw else zero_points[command.tensor]
        wanted = [outputs, channels, int(raw), zero_point, made, *pitches, columns, words]
        if found != wanted:
            raise ValueError(
                f"{where}: core {tile.core}'s outputs, channels, raw, zero point, first word, pitches, columns and "
                f"words must be {wanted}, not {found}"
            )
        if core.source.partial != command.partial:
            raise ValueError(f"{where}: partial must be {command.partial}, not {core.source.partial}")
        window = windows[tile.core]
        _check_source(f"{where}: core {tile.core}", layer, core.source, window)
        pitch = config.padded_channels(network.tensors()[layer.inputs[0]].shape[2]) // WORD_CHANNELS
        first_word = (core.source.base - window.base + window.low) % pitch
        check_use(f"{where}: core {tile.core}", layer, core.source, first_word)


def _check_source(where: str, layer: Layer, source: SourceFields, window: WindowFields) -> None:
    """A core reads what it keeps of the layer's input, and nothing else, with the layer's threshold."""
    if source.threshold != threshold_of(layer):
        raise ValueError(f"{where}: threshold must be {threshold_of(layer)}, not {source.threshold}")
    first = source.base - window.base
    reach = (source.rows - source.blank_rows - 1) * source.row_pitch + (source.columns - 1) * source.column_pitch
    last = first + reach + source.words
    if source.bank != window.bank or first < 0 or last > window.count:
        raise ValueError(
            f"{where} reads words {first} to {last} of bank {source.bank}, beyond the {window.count} of "
            f"bank {window.bank} that it keeps of {layer.inputs[0]}"
        )


def _check_decisions(network: Network, commands: Sequence[Command], instructions: tuple[Instruction, ...]) -> None:
    """Every exit of the network is decided behind its head, as it says; the last one stops."""
    found: list[tuple[int, str, int | None, int, int]] = []
    following = iter(commands)
    head = ""
    for instruction in instructions:
        if instruction.op is Opcode.SELECT:
            continue
        if instruction.op is Opcode.LAYER:
            head = next(following).layer
            continue
        decision = instruction.decision
        assert decision is not None
        threshold = decision.threshold if instruction.op is Opcode.BRANCH else None
        found.append((instruction.index, head, threshold, decision.low, decision.high))
    exits = enumerate(network.exits)
    wanted = [(number, leave.logits, leave.threshold, leave.low, leave.high) for number, leave in exits]
    if found != wanted:
        raise ValueError(f"program image decides {found}, the network {wanted}")
