"""Defines the verbs ``pack`` and ``unpack``, which change the form of finished studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import Results
from benchmark.records.user_folders import find_study
from benchmark.utils.words import counted

Studies = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDY...", help="Studies: names below --results, or paths.", autocompletion=completion.studies
    ),
]


def pack(studies: Studies, results: Results = Path("results")) -> None:
    """Put the files of finished studies into a few.

    Records, counts per image, histories and kept images become one file each, in the study's folder `packed`. Every
    verb reads them as before. Weights and the report stay where they are.
    """
    from benchmark.records.packed_study import PACKED
    from benchmark.records.packing import pack_study

    for folder in (find_study(results, text, "STUDY") for text in studies):
        files = pack_study(folder)
        done = f"{counted(files, 'file')} packed into {folder / PACKED}" if files else "packed already"
        typer.echo(f"{folder.name}: {done}")


def unpack(studies: Studies, results: Results = Path("results")) -> None:
    """Put the files of packed studies back into folders.

    Every file is as it was before `pack`.
    """
    from benchmark.records.packing import unpack_study

    for folder in (find_study(results, text, "STUDY") for text in studies):
        files = unpack_study(folder)
        typer.echo(f"{folder.name}: {counted(files, 'file')} unpacked" if files else f"{folder.name}: not packed")
