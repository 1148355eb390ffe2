"""Defines the ``predict`` verb: predicts images of any size with a trained network."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli.options import (
    Device,
    FinishedStudy,
    LayerNames,
    Repeat,
    Results,
    Threads,
    TrainedAt,
    TrainedOn,
    Weights,
)
from benchmark.devices.hardware_slots import hardware_of
from benchmark.utils.errors import UserError, did_you_mean, require
from benchmark.utils.files import check_folder
from benchmark.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from rich.console import Console

    from benchmark.predict.polygons.gds_writer import Layouts
    from benchmark.predict.predict_images import ImageOutcome, PredictionJob
    from benchmark.records.weights import TrainedNetwork


def predict(
    images: Annotated[list[str], typer.Argument(help="Files, folders or wildcards: PNG, JPEG, BMP, TIFF, BigTIFF.")],
    models: Annotated[str, typer.Option(help="Name of the network; several only with --overlap-study.")],
    out: Annotated[Path, typer.Option(help="Folder of the results, with one subfolder per kind.")],
    study: FinishedStudy = None,
    weights: Weights = None,
    trained_at: TrainedAt = None,
    layers: LayerNames = None,
    results: Results = Path("results"),
    dataset: TrainedOn = None,
    repeat: Repeat = None,
    repeats: Annotated[
        str | None,
        typer.Option(
            metavar="all|N,N,...", help="Average the probabilities of these repeats; all needs run --keep-weights all."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the tiles, pixels; default: the largest that agrees with training's."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Least overlap of neighbouring tiles, pixels; default: tile / 4.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least probability of foreground; default: the study's threshold.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="16-bit values of black and white; default: percentiles.")
    ] = None,
    vias: Annotated[
        bool | None, typer.Option("--vias/--no-vias", help="List components as x, y, r; default: if trained for vias.")
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
        typer.Option(
            metavar="PX", help="Largest distance of outlines in gds and oas from the pixels' edges; default: 0."
        ),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write a PNG of the image with the prediction on it.")] = True,
    probability: Annotated[
        bool, typer.Option("--probability", help="Write probabilities, 0 to 255 for 0 to 1.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tiles per forward; default: 4, and more of less than 256 px.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Number format of convolutions; bfloat16 is faster and changes few pixels."),
    ] = "float32",
    runtime: Annotated[
        Literal["torch", "onnxruntime", "openvino", "auto"],
        typer.Option(help="Program that computes the network on a CPU; auto: the fastest on a tile, measured first."),
    ] = "torch",
    device: Device = "auto",
    threads: Threads = None,
    overlap_study: Annotated[
        bool, typer.Option("--overlap-study", help="Only measure and plot the effect of the overlap on one image.")
    ] = False,
) -> None:
    """Predict images of any size with a trained network. Up to 2^32 pixels; a repeated call continues."""
    import torch

    from benchmark.cli.progress import open_console
    from benchmark.data.formats.images import Levels
    from benchmark.devices.precision import computes_bfloat16
    from benchmark.evaluation.tiles import TileAxis
    from benchmark.predict import inputs, manifest
    from benchmark.predict.fused_network import fuse_members
    from benchmark.predict.predict_images import PredictionJob
    from benchmark.predict.runtimes import EXTRA, RUNTIMES, run_by
    from benchmark.predict.settings import PredictSettings, finds_vias
    from benchmark.predict.tile_choice import OVERLAP, TileChoice, TileTrial, largest_stack, tiles_per_forward
    from benchmark.records.chosen_networks import chosen_networks
    from benchmark.records.weights import label_of, read_weights
    from benchmark.training.probe import ProbeInput, probe_networks

    console = open_console()
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"--threshold {threshold}: expected a probability between 0 and 1, such as 0.5")
    if overlap_study:
        flags = {
            "--repeats": repeats is not None,
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
            "--runtime": runtime != "torch",
        }
        if idle := [flag for flag, present in flags.items() if present]:
            raise UserError(
                f"{', '.join(idle)}: --overlap-study tries overlaps from none to 7/8 of a tile and writes a table and "
                "a figure only; leave out one or the other"
            )
    _, trained = chosen_networks(
        *(results, models),
        study=study,
        weights=weights,
        size=trained_at,
        layers=layers,
        train=dataset,
        repeat=repeat,
        repeats=repeats,
        one=not overlap_study,
    )
    network = trained[0]
    svg, layouts = _polygons(polygons, no_polygons, nm_per_pixel, layer_map, tolerance, network.layers)
    if network.layers and vias is not None:
        raise UserError(
            f"--{'' if vias else 'no-'}vias: {network.label} marks {' and '.join(network.layers)}, whose names tell "
            "which are vias; leave it out"
        )
    files = inputs.expand(images, console.print)
    check_folder("--out", out)
    if overlap_study:
        if len(files) != 1:
            raise UserError(f"--overlap-study: {len(files)} images; expected one: name a typical frame")
        limits = _levels(levels)
        _study_overlaps(console, trained, files[0], tile, threshold, limits, batch, _device(device, threads), out)
        return
    kept = None if tile else manifest.tile_of(out)
    least = tile or kept or network.input_size
    settings = PredictSettings(
        label_of(trained),
        hashlib.sha256(b"".join(read_weights(member.file) for member in trained)).hexdigest(),
        network.channels,
        tile=least,
        overlap=least // OVERLAP if overlap is None else overlap,
        dtype=dtype,
        threshold=network.protocol.evaluation.threshold if threshold is None else threshold,
        levels=_levels(levels),
        vias=(not network.layers and finds_vias(network)) if vias is None else vias,
        probability=probability,
        polygons=svg,
        overlay=overlay,
        layouts=layouts,
        layers=network.layers,
    )
    manifest.check(out, settings, set())  # before the network is built
    shared = TileAxis(least, least, settings.overlap, network.entry.multiple).shared  # refuses impossible tiles
    torch_device = _device(device, threads)
    if runtime == "onnxruntime" or runtime == "openvino":
        if torch_device.type != "cpu":
            raise UserError(f"--runtime {runtime}: computes on the CPU, not on {torch_device}; add --device cpu")
        if dtype != "float32":
            raise UserError(f"--runtime {runtime}: computes in float32, not in {dtype}; leave out one or the other")
        require(*RUNTIMES[runtime].packages, flag=f"--runtime {runtime}", extra=EXTRA)
    if dtype == "bfloat16" and not computes_bfloat16(torch_device):
        raise UserError(
            f"--dtype bfloat16: {torch_device} has no instructions for it and would emulate it, slower; use float32"
        )
    tiles = ProbeInput(least, network.channels)
    probe_networks([network.entry], [tiles], console.print, on_cpu=torch_device.type == "cpu")
    fused = fuse_members(trained, torch_device, dtype)
    choice = TileChoice(least, "--tile")
    if tile is None:
        facts = network.input_size, network.entry.multiple, network.channels, settings.threshold, torch_device, batch
        trial = TileTrial(
            *(fused, *facts, Levels(*settings.levels) if settings.levels else None), max(1, len(network.layers))
        )
        new = [file for file in files if not manifest.is_known(out, file.stem)]
        choice = trial.keep(kept, new, out) if kept else trial.choose(files)
        chosen = choice.side // OVERLAP if overlap is None else overlap
        settings = replace(settings, tile=choice.side, overlap=chosen)
        shared = TileAxis(choice.side, choice.side, chosen, network.entry.multiple).shared
    batch = batch or tiles_per_forward(choice.side)
    if runtime != "torch":
        stack = largest_stack(files, choice.side, settings.overlap, network.entry.multiple, batch)
        fused, ran_by = run_by(runtime, fused, network.channels, choice.side, torch.get_num_threads(), stack)
        console.print(f"--runtime {runtime}: {ran_by}")
    job = PredictionJob(fused, settings, network.entry.multiple, torch_device, batch, out)
    raise typer.Exit(_predict(console, job, files, shared, choice.reason))


def _predict(console: Console, job: PredictionJob, images: list[Path], shared: int, reason: str) -> int:
    """Predict images with a progress display; return the exit code."""
    from benchmark.cli.progress import ProgressDisplay, duration
    from benchmark.data.formats.images import OWN_LEVELS, sized
    from benchmark.predict.fused_network import as_written

    progress = ProgressDisplay(console)
    progress.print(
        f"{job.settings.network}: {counted(len(images), 'image')}, tiles of {job.settings.tile} px that "
        f"share {shared}, on {job.device}"
    )
    progress.print(f"tiles of {job.settings.tile} px: {reason}")
    if reason_as_written := as_written(job.network):
        progress.print(f"note: the network's layers stay as they are written, which is slower: {reason_as_written}")
    numbers = itertools.count(1)
    with progress:
        progress.begin("images", len(images))

        def advance(image: Path, tiles: int, total: int) -> None:
            progress.update(image.name, tiles, total, "tiles")

        def end(outcome: ImageOutcome) -> None:
            number = next(numbers)
            progress.end(outcome.image.name)
            progress.update("images", number, len(images))
            result = {"finished": "finished before", "broken": "broken"}.get(outcome.status) or (
                f"{sized(outcome.shape)}, {counted(outcome.tiles, 'tile')}, {duration(outcome.seconds)}"
            )
            notes = "".join(f"; {note}" for note in outcome.notes) if outcome.status == "predicted" else ""
            progress.print(f"[{number}/{len(images)}] {outcome.image.name}: {result}{notes}")

        try:
            outcomes = job.run(images, advance, end)
        except KeyboardInterrupt:
            console.print("Interrupted. Finished images are kept; the same command goes on from here.")
            return 130
    broken = [outcome for outcome in outcomes if outcome.status == "broken"]
    finished = sum(outcome.status == "finished" for outcome in outcomes)
    counts = [f"{len(outcomes) - len(broken) - finished} predicted"]
    counts += [f"{finished} finished before"] if finished else []
    counts += [f"{len(broken)} broken"] if broken else []
    console.print(f"{job.out}: {', '.join(counts)}")
    if any(outcome.own_levels for outcome in outcomes):
        console.print(f"note: {OWN_LEVELS}: --levels sets the same for all")
    for outcome in broken:
        console.print(f"broken: {outcome.notes[0]}")
    return 1 if broken else 0


def _study_overlaps(
    console: Console,
    trained: list[TrainedNetwork],
    image: Path,
    tile: int | None,
    threshold: float | None,
    levels: tuple[float, float] | None,
    batch: int | None,
    device: torch.device,
    out: Path,
) -> None:
    """Measure and plot the effect of the overlap on each network's prediction of an image."""
    from benchmark.cli.progress import bar
    from benchmark.data.formats.images import Levels
    from benchmark.predict import overlap_study
    from benchmark.predict.fused_network import fuse_trained
    from benchmark.predict.reader import open_source
    from benchmark.predict.tile_choice import tiles_per_forward

    differences = []
    with open_source(image, Levels(*levels) if levels else None) as source:
        for network in trained:
            subject = overlap_study.StudiedNetwork(
                network.entry.display,
                fuse_trained(network, device),
                network.channels,
                tile or network.input_size,
                network.entry.multiple,
                network.protocol.evaluation.threshold if threshold is None else threshold,
                max(1, len(network.layers)),
            )
            with bar(network.label) as progress:
                lines = overlap_study.measure(
                    subject, source, batch or tiles_per_forward(subject.tile), device, progress
                )
            differences += lines
            for line in lines:
                console.print(
                    f"{network.label}: {line.overlap_px} px shared, {counted(line.tiles, 'tile')}: probability differs "
                    f"by {line.max_difference:.2g} at most, {line.mean_difference:.2g} on average; "
                    f"{line.changed_px:,} of {line.image_px:,} mask pixels differ"
                )
    for path in overlap_study.write(out, image.name, differences):
        console.print(path)


def _device(name: str, threads: int | None) -> torch.device:
    import torch

    hardware = hardware_of(name, threads)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.device(hardware.device)


def _polygons(
    text: str | None,
    no_polygons: bool,
    nm_per_pixel: float | None,
    layer_map: str | None,
    tolerance: float | None,
    layers: Sequence[str],
) -> tuple[bool, Layouts | None]:
    """Read the flags of polygons: whether an SVG is written, and the settings of layout files of a network's layers."""
    from benchmark.predict.polygons.gds_writer import FORMATS, NUMBERS, Layouts, numbered, read_layer_map

    if no_polygons and text is not None:
        raise UserError(f"--no-polygons: --polygons {text} asks for some; leave out one or the other")
    names = [] if no_polygons else list(dict.fromkeys(part.strip() for part in (text or "svg").split(",")))
    if unknown := [name for name in names if name not in ("svg", *FORMATS)]:
        known = ", ".join(("svg", *FORMATS))
        raise UserError(
            f"--polygons {text}: found {unknown[0]!r}{did_you_mean(unknown[0], known.split(', '))}; expected "
            f"a comma list of {known}"
        )
    formats = tuple(name for name in FORMATS if name in names)
    if not formats:
        flags = {"--nm-per-pixel": nm_per_pixel, "--layer-map": layer_map, "--tolerance": tolerance}
        if idle := [flag for flag, value in flags.items() if value is not None]:
            raise UserError(
                f"{', '.join(idle)}: for layout files only; add --polygons gds or --polygons oas, or leave it out"
            )
        return bool(names), None
    if nm_per_pixel is None:
        raise UserError(
            f"--polygons {text}: a layout has a scale; give the pitch of the image's pixels in nanometres, such as "
            "--nm-per-pixel 10"
        )
    given = read_layer_map(layer_map, layers or tuple(NUMBERS)) if layer_map is not None else {}
    numbers = numbered(layers, given) if layers else {**NUMBERS, **given}
    return "svg" in names, Layouts(formats, nm_per_pixel, tuple(numbers.items()), tolerance or 0.0)


def _levels(text: str | None) -> tuple[float, float] | None:
    """Read ``--levels``: two ascending numbers."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--levels {text}: expected two numbers, the lower first, such as 1200,48000")
    return low, high
