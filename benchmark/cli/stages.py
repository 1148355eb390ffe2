"""Defines the ``stages`` verb: draws the feature maps of trained encoders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli.options import FinishedStudy, LayerNames, Models, Repeat, Results, TrainedOn, Weights
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from benchmark.data.formats.images import UInt8Array
    from benchmark.predict.feature_maps import Encoder, Patch

MOST_SIDE = 1024  # pixels; the largest input that a preset trains on, so what the machine has room for


def stages(
    models: Models,
    image: Annotated[Path, typer.Option(help="Image that the networks see.")],
    study: FinishedStudy = None,
    weights: Weights = None,
    layers: LayerNames = None,
    results: Results = Path("results"),
    dataset: TrainedOn = None,
    repeat: Repeat = None,
    window: Annotated[
        str | None, typer.Option(metavar="X,Y,SIDE", help="Square that the networks see; default: the whole image.")
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(metavar="X,Y,SIDE", help="Square to enlarge; default: the square with the most gradient energy."),
    ] = None,
    channel: Annotated[
        Literal["principal", "variance"],
        typer.Option(help="Map of a stage: its first principal component, or its most varying channel."),
    ] = "principal",
    at: Annotated[
        str, typer.Option(help="Comma list of modules, such as down_2,block_2 or encoder[3]; default: the stages.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for PDF and PNG; default: stages/ in the study, or beside --weights.")
    ] = None,
) -> None:
    """Draw the maps of all encoder stages of trained networks. They stand side by side, with an enlarged patch."""
    from benchmark.cli.progress import open_console
    from benchmark.data.formats.images import OWN_LEVELS, read_depth
    from benchmark.predict import encoder_plot, encoder_stages, feature_maps
    from benchmark.records.chosen_networks import chosen_networks
    from benchmark.report.plots import plot_style
    from benchmark.utils.files import check_folder, write_atomically

    folder, networks = chosen_networks(
        results, models, study=study, weights=weights, layers=layers, train=dataset, repeat=repeat
    )
    target = out or folder / "stages"
    check_folder("--out", target)
    area = _area(image, window, min(network.input_size for network in networks))
    views = {channels: _read(image, channels, area) for channels in sorted({network.channels for network in networks})}
    pixels = views[max(views)]
    enlarged = _patch(pixels, area, patch)
    encoders = [encoder_stages.encoder(network, views[network.channels], channel, at) for network in networks]
    notes = (
        encoder_stages.NAMED if at else encoder_stages.RULE,
        f"Shown: {feature_maps.CHANNELS[channel]}",
        f"Patch (x,y,side): {'as asked for' if patch else feature_maps.BUSIEST}",
        *([f"16 bits: {feature_maps.DEPTH}"] if read_depth(image) == 16 else []),
        "Networks compute in float32",
    )
    trained_on = "_".join(dict.fromkeys("+".join(network.train) or network.file.stem for network in networks))
    source = f"weights {weights[0].name}" if weights else f"study {folder.name}"
    title = f"Encoder stages, {source}: {image.name}"
    figure = encoder_plot.draw(encoder_plot.StagePanel(title, pixels, (area[0], area[1]), enlarged, notes), encoders)
    console = open_console()
    console.print(_table(encoders))
    if read_depth(image) == 16:
        console.print(f"note: {OWN_LEVELS}")
    for kind in ("pdf", "png"):
        path = target / f"{trained_on}.{image.stem}.{channel}.{kind}"
        write_atomically(path, plot_style.save(figure, kind))
        console.print(path)


def _area(image: Path, window: str | None, input_size: int) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the area that the networks see; refuse an area that is too large."""
    from benchmark.data.formats.images import read_size

    height, width = read_size(image)
    box = _box("--window", window)
    if box is not None and not box.fits(height, width):
        raise UserError(
            f"--window {window}: leaves {image}, {width} pixels wide and {height} high; expected a square inside"
        )
    area = (box.x, box.y, box.side, box.side) if box else (0, 0, width, height)
    if max(area[2:]) > MOST_SIDE:
        side = min(input_size, width, height)
        centre = f"{(width - side) // 2},{(height - side) // 2},{side}"
        raise UserError(
            f"{f'--image {image}' if box is None else f'--window {window}'}: {area[2]} pixels wide and {area[3]} high; "
            f"expected at most {MOST_SIDE} on a side: name a part, such as the centre of the training's size with "
            f"--window {centre}"
        )
    return area


def _read(image: Path, channels: int, area: tuple[int, int, int, int]) -> UInt8Array:
    """Read part of an image as ``(H, W, channels)``; 16 bits are mapped by the whole image's own percentiles."""
    from benchmark.data.formats.images import percentile_levels, read_depth, read_image

    levels = percentile_levels([image]) if read_depth(image) == 16 else None
    x, y, width, height = area
    return read_image(image, channels, levels)[y : y + height, x : x + width]


def _patch(pixels: UInt8Array, area: tuple[int, int, int, int], patch: str | None) -> Patch:
    """Return the enlarged square in the image's coordinates."""
    from benchmark.predict.feature_maps import Patch, busiest

    x, y, width, height = area
    box = _box("--patch", patch)
    if box is None:
        chosen = busiest(pixels)
        return Patch(chosen.x + x, chosen.y + y, chosen.side)
    if not Patch(box.x - x, box.y - y, box.side).fits(height, width):
        raise UserError(
            f"--patch {patch}: leaves what the networks see, {width} pixels wide and {height} high from {x},{y} on; "
            "expected a square inside, in the image's coordinates"
        )
    return box


def _box(flag: str, text: str | None) -> Patch | None:
    from benchmark.predict.feature_maps import Patch

    if text is None:
        return None
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 3 or not all(part.isdecimal() for part in numbers) or not int(numbers[2]):
        raise UserError(
            f"{flag} {text!r}: expected X,Y,SIDE, pixels: a square's left and upper edge and its side, such as 64,32,96"
        )
    return Patch(*map(int, numbers))


def _table(encoders: list[Encoder]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("network", "trained as", "stage", "scale · channels · size", "shown"):
        table.add_column(name, no_wrap=True)
    for encoder in encoders:
        for number, stage in enumerate(encoder.stages):
            owner = (encoder.display, encoder.label) if number == 0 else ("", "")
            table.add_row(*owner, stage.name, stage.facts, stage.component)
    return table
