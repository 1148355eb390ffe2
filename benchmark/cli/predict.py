"""The ``predict`` verb: masks, polygons and vias of images of up to 2^32 pixels, by a trained network of a study."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli.options import Device, Results, study_folder
from benchmark.devices.hardware import hardware_of
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import check_folder

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from benchmark.predict.polygons.gds_writer import Layouts
    from benchmark.predict.predict_images import Done
    from benchmark.predict.settings import Settings
    from benchmark.records.weights import TrainedNetwork


OVERLAP = 4  # by default tiles share one part in so many
LINE_S = 60.0  # between lines that tell how far an image is, where nothing can be redrawn


def predict(
    images: Annotated[list[str], typer.Argument(help="Files, folders or wildcards: PNG, JPEG, BMP, TIFF, BigTIFF.")],
    study: Annotated[str, typer.Option(help="Name of the study that trained the network.")],
    models: Annotated[str, typer.Option(help="Name of the network; one, unless with --overlap-study.")],
    out: Annotated[Path, typer.Option(help="Folder of the results, with one subfolder per kind.")],
    results: Results = Path("results"),
    dataset: Annotated[
        str | None, typer.Option(help="What the network was trained on, such as omc-syn or omc+miic.")
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=0, help="Which repeat; default: the kept one of the lowest validation loss.")
    ] = None,
    tile: Annotated[int | None, typer.Option(min=1, help="Side of the tiles, pixels; default: as in training.")] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="That neighbouring tiles share at least, pixels; default: tile / 4.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Foreground from this probability on; default: the study's.")
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="16-bit values that become black and white; default: percentiles."),
    ] = None,
    vias: Annotated[
        bool | None,
        typer.Option("--vias/--no-vias", help="List components as x, y, r; default: if trained for vias."),
    ] = None,
    polygons: Annotated[
        str | None,
        typer.Option(metavar="FORMATS", help="Comma list of svg (as HY5SYN's labels are), gds, oas; default: svg."),
    ] = None,
    no_polygons: Annotated[bool, typer.Option("--no-polygons", help="Write no polygons.")] = False,
    nm_per_pixel: Annotated[
        float | None, typer.Option(metavar="NM", help="Pitch of the image's pixels, for gds and oas.")
    ] = None,
    layer_map: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="Layers and data types in gds and oas; default: track=1/0,via=2/0."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="PX", help="How far outlines in gds and oas may be from pixels' edges; default: 0."),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write a PNG of the image with the prediction on it.")] = True,
    probability: Annotated[
        bool, typer.Option("--probability", help="Write probabilities, 0 to 255 for 0 to 1.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Tiles per forward.")] = 4,
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="What convolutions compute in; bfloat16 is faster and changes few pixels."),
    ] = "float32",
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
    overlap_study: Annotated[
        bool,
        typer.Option(
            "--overlap-study", help="Instead: measure on one image how much the overlap matters, and plot it."
        ),
    ] = False,
) -> None:
    """Predict images of up to 2^32 pixels with a trained network in blended tiles; an interrupted call goes on."""
    import hashlib

    from benchmark.config import registry
    from benchmark.devices.precision import computes_bfloat16
    from benchmark.predict import inputs, manifest
    from benchmark.predict.settings import Settings, finds_vias
    from benchmark.predict.tiles import Axis
    from benchmark.records import weights
    from benchmark.training import probe as probing

    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"--threshold {threshold}: expected a probability between 0 and 1, such as 0.5")
    if overlap_study:
        asked = {
            "--overlap": overlap is not None,
            "--vias" if vias else "--no-vias": vias is not None,
            "--polygons": polygons is not None,
            "--no-polygons": no_polygons,
            "--nm-per-pixel": nm_per_pixel is not None,
            "--layer-map": layer_map is not None,
            "--tolerance": tolerance is not None,
            "--no-overlay": not overlay,
            "--probability": probability,
            "--dtype": dtype != "float32",
        }
        if idle := [flag for flag, given in asked.items() if given]:
            raise UserError(
                f"{', '.join(idle)}: --overlap-study tries overlaps from none to 7/8 of a tile and writes a table and "
                "a figure only; leave out one or the other"
            )
    svg, layouts = _polygons(polygons, no_polygons, nm_per_pixel, layer_map, tolerance)
    entries = registry.select(models)
    if len(entries) > 1 and not overlap_study:
        raise UserError(
            f"--models {models}: {len(entries)} networks ({', '.join(entry.name for entry in entries)}); expected one, "
            "since results would have the same names: call predict once for each, with an --out of its own"
        )
    trained = weights.find(study_folder(results, study), entries, dataset, repeat)
    found = inputs.expand(images, typer.echo)
    check_folder("--out", out)
    if overlap_study:
        _study_overlaps(trained, found, tile, threshold, _levels(levels), batch, _device(device, threads), out)
        return
    network = trained[0]
    side = tile or network.input_size
    settings = Settings(
        network=network.label,
        weights=hashlib.sha256(weights.read(network.file)).hexdigest(),
        channels=network.channels,
        tile=side,
        overlap=side // OVERLAP if overlap is None else overlap,
        dtype=dtype,
        threshold=network.protocol.evaluation.threshold if threshold is None else threshold,
        levels=_levels(levels),
        vias=finds_vias(network) if vias is None else vias,
        probability=probability,
        polygons=svg,
        overlay=overlay,
        layouts=layouts,
    )
    Axis(
        settings.tile, settings.tile, settings.overlap, network.entry.multiple
    )  # refuses what no image could be cut to
    manifest.check(out, settings, set())  # before the network is built
    place = _device(device, threads)
    if dtype == "bfloat16" and not computes_bfloat16(place):
        raise UserError(
            f"--dtype bfloat16: {place} has no instructions for it and would emulate it, slower; use float32"
        )
    tiles = probing.Input(side, network.channels)
    probing.probe([network.entry], [tiles], typer.echo, on_cpu=place.type == "cpu")
    raise typer.Exit(_predict(network, settings, found, out, batch, place))


def _predict(
    trained: TrainedNetwork, settings: Settings, images: list[Path], out: Path, batch: int, device: torch.device
) -> int:
    """Predict images under a display; return the exit code."""
    from rich.console import Console

    from benchmark.data.formats.images import OWN_LEVELS
    from benchmark.predict import fused_network as inference
    from benchmark.predict.predict_images import Job
    from benchmark.predict.tiles import Axis

    console = Console(soft_wrap=True)
    job = Job(inference.of_study(trained, device, settings.dtype), settings, trained.entry.multiple, device, batch, out)
    console.print(
        f"{trained.label}: {len(images)} image{'s' * (len(images) > 1)}, tiles of {settings.tile} px that share "
        f"{Axis(settings.tile, settings.tile, settings.overlap, trained.entry.multiple).shared}, on {device}",
        markup=False,
        highlight=False,
    )
    if job.network.as_written:
        console.print(
            f"note: the network's layers stay as they are written, which is slower: {job.network.as_written}",
            markup=False,
            highlight=False,
        )
    with _display(console, len(images)) as (progress, done):
        try:
            outcomes = job.run(images, progress, done)
        except KeyboardInterrupt:
            console.print("Interrupted. Finished images are kept; the same command goes on from here.")
            return 130
    broken = [outcome for outcome in outcomes if outcome.status == "broken"]
    finished = sum(outcome.status == "finished" for outcome in outcomes)
    counts = [f"{len(outcomes) - len(broken) - finished} predicted"]
    counts += [f"{finished} finished before"] if finished else []
    counts += [f"{len(broken)} broken"] if broken else []
    console.print(f"{out}: {', '.join(counts)}", markup=False, highlight=False)
    if any(outcome.own_levels for outcome in outcomes):
        console.print(f"note: {OWN_LEVELS}: --levels sets the same for all", markup=False, highlight=False)
    for outcome in broken:
        console.print(f"broken: {outcome.notes[0]}", markup=False, highlight=False)
    return 1 if broken else 0


def _study_overlaps(
    trained: list[TrainedNetwork],
    images: list[Path],
    tile: int | None,
    threshold: float | None,
    levels: tuple[float, float] | None,
    batch: int,
    device: torch.device,
    out: Path,
) -> None:
    """Measure how much the overlap matters to each network on one image, and plot it."""
    from benchmark.cli import data as cli_data
    from benchmark.data.formats.images import Levels
    from benchmark.predict import fused_network as inference
    from benchmark.predict import overlap_study as overlaps
    from benchmark.predict.reader import open_source

    if len(images) != 1:
        raise UserError(f"--overlap-study: {len(images)} images; expected one: name a typical frame")
    differences = []
    with open_source(images[0], Levels(*levels) if levels else None) as source:
        for one in trained:
            subject = overlaps.Subject(
                one.entry.display,
                inference.of_study(one, device),
                one.channels,
                tile or one.input_size,
                one.entry.multiple,
                one.protocol.evaluation.threshold if threshold is None else threshold,
            )
            with cli_data.bar(one.label) as progress:
                found = overlaps.measure(subject, source, batch, device, progress)
            differences += found
            for line in found:
                typer.echo(
                    f"{one.label}: {line.overlap_px} px shared, {line.tiles} tiles: probability differs by "
                    f"{line.max_difference:.2g} at most, {line.mean_difference:.2g} on average; "
                    f"{line.changed_px:,} of {line.image_px:,} mask pixels differ"
                )
    for path in overlaps.write(out, images[0].name, differences):
        typer.echo(path)


@contextlib.contextmanager
def _display(
    console: Console, images: int
) -> Iterator[tuple[Callable[[Path, int, int], None], Callable[[Done], None]]]:
    """Show bars on a terminal, and a line per image and minute elsewhere; give the functions that move them."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from benchmark.cli.progress import duration

    count = 0
    told = time.monotonic()
    from benchmark.data.formats.images import sized

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bars:
        overall, one = bars.add_task("images", total=images), bars.add_task("tiles", total=None)

        def progress(image: Path, tiles: int, total: int) -> None:
            nonlocal told
            bars.update(one, description=image.name, completed=tiles, total=total)
            if bars.disable and tiles < total and time.monotonic() - told >= LINE_S:
                told = time.monotonic()
                console.print(f"{image.name}: {100 * tiles // total} % of {total} tiles", markup=False, highlight=False)

        def done(outcome: Done) -> None:
            nonlocal count, told
            count, told = count + 1, time.monotonic()
            bars.update(overall, completed=count)
            what = {"finished": "finished before", "broken": "broken"}.get(outcome.status) or (
                f"{sized(outcome.shape)}, {outcome.tiles} tile{'s' * (outcome.tiles != 1)}, {duration(outcome.seconds)}"
            )
            notes = "".join(f"; {note}" for note in outcome.notes) if outcome.status == "predicted" else ""
            console.print(f"[{count}/{images}] {outcome.image.name}: {what}{notes}", markup=False, highlight=False)

        yield progress, done


def _device(name: str, threads: int | None) -> torch.device:
    import torch

    hardware = hardware_of(name, threads)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.device(hardware.device)


def _polygons(
    text: str | None, none: bool, nm_per_pixel: float | None, layer_map: str | None, tolerance: float | None
) -> tuple[bool, Layouts | None]:
    """Read what concerns polygons: whether an SVG is wanted, and how layout files are.

    Raises:
        UserError: names the flag that is wrong, missing, or idle.
    """
    from benchmark.predict.polygons import gds_writer as layouts

    if none and text is not None:
        raise UserError(f"--no-polygons: --polygons {text} asks for some; leave out one or the other")
    names = [] if none else list(dict.fromkeys(part.strip() for part in (text or "svg").split(",")))
    if unknown := [name for name in names if name not in ("svg", *layouts.FORMATS)]:
        known = ", ".join(("svg", *layouts.FORMATS))
        raise UserError(
            f"--polygons {text}: found {unknown[0]!r}{did_you_mean(unknown[0], known.split(', '))}; expected "
            f"a comma list of {known}"
        )
    formats = tuple(name for name in layouts.FORMATS if name in names)
    given = {"--nm-per-pixel": nm_per_pixel, "--layer-map": layer_map, "--tolerance": tolerance}
    if not formats:
        if idle := [flag for flag, value in given.items() if value is not None]:
            raise UserError(
                f"{', '.join(idle)}: for layout files only; add --polygons gds or --polygons oas, or leave it out"
            )
        return bool(names), None
    if nm_per_pixel is None:
        raise UserError(
            f"--polygons {text}: a layout has a scale; give the pitch of the image's pixels in nanometres, such as "
            "--nm-per-pixel 10"
        )
    layers = layouts.read_layer_map(layer_map) if layer_map is not None else {}
    return "svg" in names, layouts.Layouts(formats, nm_per_pixel, **layers, tolerance=tolerance or 0.0)


def _levels(text: str | None) -> tuple[float, float] | None:
    """Read ``--levels``.

    Raises:
        UserError: not two ascending numbers.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high < float("inf"):
        raise UserError(f"--levels {text}: expected two numbers, the lower first, such as 1200,48000")
    return low, high
