"""Defines ``benchmark data``: makes, imports, checks and shows datasets."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.help import Verb
from benchmark.cli.options import Cache, DataRoot, Overrides, ProtocolName
from benchmark.cli.reproduce import flags_given
from benchmark.records.user_folders import DATA_ROOT, check_data_root
from benchmark.utils.errors import UserError
from benchmark.utils.files import check_folder, no_folder
from benchmark.utils.words import counted

if TYPE_CHECKING:
    from benchmark.config.protocol import Protocol
    from benchmark.data.check.survey import DatasetFolder
    from benchmark.data.specs import Layer

app = typer.Typer(help="Synthesize, prepare, verify and show datasets.", no_args_is_help=True, rich_markup_mode=None)

OF_LAYOUTS = ("layers", "nm_per_pixel", "cell", "appearance", "target")  # flags that no stand-in has

Name = Annotated[str, typer.Argument(help="A dataset of `list datasets`, its stand-in (NAME-syn), or one of your own.")]


@app.command(cls=Verb)
def synthesize(
    context: typer.Context,
    dataset: Annotated[
        str | None, typer.Option("--datasets", help="The dataset whose stand-in is drawn, such as omc or t84c.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="A real layout instead of a stand-in: a GDS or OASIS file, or sky130.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers of a layout: LAYER/DATATYPE of tracks, of vias and of the layer below, in this order, or each "
            "with its role: 68/20:track,67/44:via,67/20:lower. Default for sky130: 67/20,67/44,66/20."
        ),
    ] = None,
    nm_per_pixel: Annotated[float, typer.Option(help="Side of a pixel of a layout.")] = 10.0,
    cell: Annotated[str | None, typer.Option(help="Cell of a layout file; default: the largest top cell.")] = None,
    appearance: Annotated[str, typer.Option(help="Appearance of a layout: hy5syn, miic or omc.")] = "hy5syn",
    target: Annotated[str, typer.Option(help="Foreground of a layout's labels: track or via.")] = "track",
    count: Annotated[int, typer.Option(min=1, help="Images (frames for hy5syn).")] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    off: Annotated[str, typer.Option(help="Comma list of effects to leave out.")] = "",
    height: Annotated[
        int | None, typer.Option(min=32, help="Pixels; default: the dataset's size, 512 for layouts.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=32, help="Pixels; default: the dataset's size, 512 for layouts.")
    ] = None,
    data_root: DataRoot = DATA_ROOT,
    out: Annotated[Path | None, typer.Option(help="Target folder; default: DATA_ROOT/NAME-syn.")] = None,
) -> None:
    """Draw a stand-in, or windows of a real layout, as image files. A label each and a manifest lie beside them."""
    from concurrent.futures import ProcessPoolExecutor

    from benchmark.cli.progress import bar, open_console
    from benchmark.utils.processes import SPAWN

    if (dataset is None) == (layout is None):
        raise UserError(
            f"--datasets {dataset}, --layout {layout}: expected one of the two: a stand-in or a real layout"
        )
    given = flags_given(context)
    foreign = ", ".join(f"--{name.replace('_', '-')}" for name in OF_LAYOUTS if name in given)
    if layout is None and foreign:
        raise UserError(
            f"{foreign}: changes windows of a layout, and --datasets {dataset} is a stand-in; leave it out, or give "
            "--layout in place of --datasets"
        )
    switched_off = frozenset(name.strip() for name in off.split(",") if name.strip())
    with ProcessPoolExecutor(mp_context=SPAWN) as pool, bar("generating") as progress:
        if layout is None:
            from benchmark.data import synthetic

            folder = out or data_root / f"{dataset}-syn"
            check_folder("--out" if out else "--data-root", folder)
            size = {"height": height, "width": width}
            synthetic.write(
                str(dataset), folder, count, **size, seed=seed, off=switched_off, executor=pool, progress=progress
            )
            notes: tuple[str, ...] = ()
        else:
            from benchmark.data.layouts import layout_source, microscope

            look, marked = microscope.Appearance(appearance, seed, switched_off), _target(target)
            source = layout_source.open_layout(layout, layers, cell, out.name if out else None)
            folder = out or data_root / source.name
            check_folder("--out" if out else "--data-root", folder)
            windows = microscope.write(
                *(source, folder, count),
                height=height,
                width=width,
                nm_per_pixel=nm_per_pixel,
                target=marked,
                look=look,
                executor=pool,
                progress=progress,
            )
            notes = (*source.notes, *microscope.notes(windows))
    console = open_console()
    for note in notes:
        console.print(note)
    console.print(f"{folder}: {counted(count, 'image')}")


def _target(name: str) -> Layer:
    if name not in ("track", "via"):
        raise UserError(f"--target {name!r}: expected track or via")
    return name  # type: ignore[return-value]  # checked above


@app.command(cls=Verb)
def prepare(
    name: Name,
    source: Annotated[
        Path,
        typer.Argument(
            help="The download: a folder, a zip, tar, RAR or 7z. Of an open picture: a git clone or a folder."
        ),
    ],
    data_root: DataRoot = DATA_ROOT,
) -> None:
    """Copy a download into DATA_ROOT/NAME in a readable layout. The same call continues after an interruption.

    t84c, t84c_poly and 54hc32 are made from a git clone of their public repositories, or from its files.
    """
    from benchmark.cli.progress import bar, open_console
    from benchmark.data.prepare.prepare import prepare_dataset

    with bar("copying") as progress:
        prepared = prepare_dataset(name, source, data_root, progress)
    console = open_console()
    for note in prepared.notes:
        console.print(note)
    console.print(
        f"{prepared.folder}: {counted(prepared.images, 'image')}, {counted(prepared.labels, 'label')}; "
        f"{counted(prepared.copied, 'file')} copied, {prepared.skipped} there already"
    )
    place = [] if data_root == DATA_ROOT else ["--data-root", str(data_root)]
    console.print("next: " + shlex.join(["python", "-m", "benchmark", "data", "verify", name, *place]))


@app.command(cls=Verb)
def verify(
    name: Name,
    against: Annotated[
        str | None,
        typer.Option(help="Another dataset to show beside: one that may share images (omc for omv), or a stand-in."),
    ] = None,
    protocol: ProtocolName = "paper",
    data_root: DataRoot = DATA_ROOT,
    cache: Cache = None,
    set_: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the table as files; default: CACHE/verify.")] = None,
) -> None:
    """Read every file of a dataset and print the findings. Exit code 1 if a study's numbers would be wrong."""
    from benchmark.cli.progress import bar, open_console
    from benchmark.data.check.findings_table import write
    from benchmark.data.check.verify import verify_dataset

    fitted = _fitted(protocol, set_, [name, *([against] if against else [])], data_root)
    folder = _writable(out, (cache or data_root / ".cache") / "verify")
    subject = _subject(name, data_root, fitted)
    other = _subject(against, data_root, fitted) if against else None
    with bar("reading") as progress:
        verification = verify_dataset(subject, fitted, against=other, progress=progress)
    console = open_console()
    # A file or a pipe has no width of its own; eighty columns would break every line.
    open_console(width=None if console.is_terminal else 160).print(verification.to_table(), soft_wrap=False)
    for path in write(verification, folder):
        console.print(path)
    raise typer.Exit(0 if verification.ok else 1)


@app.command(cls=Verb)
def show(
    name: Name,
    count: Annotated[int, typer.Option(min=1, help="Images on the sheet.")] = 12,
    protocol: ProtocolName = "paper",
    data_root: DataRoot = DATA_ROOT,
    cache: Cache = None,
    set_: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="PNG file of one dataset; default: CACHE/show/NAME.png.")] = None,
) -> None:
    """Draw images with the outlines of their masks on a PNG sheet."""
    import io

    from benchmark.cli.progress import open_console
    from benchmark.data.check import contact_sheet
    from benchmark.data.datasets import resolve
    from benchmark.data.fingerprint import HashCache
    from benchmark.utils.files import write_atomically

    fitted = _fitted(protocol, set_, [name], data_root)
    cache = cache or data_root / ".cache"
    folder = _writable(out and out.parent, cache / "show")
    sources = resolve([name], data_root, fitted, HashCache(cache / "hashes.json"))
    if out and len(sources) > 1:
        raise UserError(
            f"--out {out}: one file for the sheets of {len(sources)} datasets "
            f"({', '.join(source.name for source in sources)}); name one dataset, or leave --out away"
        )
    for source in sources:
        sheet = contact_sheet.contact_sheet(
            source.name, contact_sheet.read_samples(source, count), total=source.count or len(source.pairs), crops=True
        )
        file, content = out or folder / f"{source.name}.png", io.BytesIO()
        sheet.save(content, "png")
        write_atomically(file, content.getvalue())
        open_console().print(file)


def _writable(out: Path | None, default: Path) -> Path:
    """Return the folder to write to, or refuse it before anything is read."""
    check_folder("--out" if out else "--cache (or --out)", out or default)
    return out or default


def _fitted(protocol: str, overrides: list[str] | None, names: list[str], data_root: Path) -> Protocol:
    """Return the protocol of a study of these datasets."""
    from benchmark.config import unused_settings
    from benchmark.config.protocol import load_protocol
    from benchmark.data import specs
    from benchmark.data.datasets import choose, names_of_all, target_of

    check_data_root(data_root)
    chosen = choose(names, data_root)
    fitted = specs.fit(load_protocol(protocol, overrides or []), list(chosen.values()))
    targets = {name.removesuffix(specs.SUFFIX): target_of(spec, fitted) for name, spec in chosen.items()}
    unused_settings.refuse_for(targets, fitted, overrides or [], names_of_all(data_root))
    return fitted


def _subject(name: str, data_root: Path, protocol: Protocol) -> DatasetFolder:
    from benchmark.data.check.survey import DatasetFolder
    from benchmark.data.datasets import choose, locate, target_of

    chosen = choose(name, data_root)
    if len(chosen) != 1:
        raise UserError(f"{name!r} names {len(chosen)} datasets ({', '.join(chosen)}); expected one")
    ((full_name, spec),) = chosen.items()
    target = target_of(spec, protocol)
    root, reading = locate(full_name, spec.model_copy(update={"target": target}), data_root)
    if not root.is_dir():
        drawn, loaded = f"synthesize --datasets {spec.name}", f"prepare {full_name} DOWNLOAD"
        raise UserError(
            f"{root}: {no_folder(root)}; bring the data there "
            f"(`benchmark data {loaded if full_name == spec.name else drawn}`), or name another --data-root"
        )
    return DatasetFolder(full_name, root, target, reading)
