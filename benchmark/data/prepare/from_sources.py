"""Makes a dataset's folder from the public files that its description names."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmark.data.formats.images import UInt8Array
from benchmark.data.formats.pillow import open_image
from benchmark.data.prepare.downloads import Layout
from benchmark.data.source_files import SourceFile, read_sources
from benchmark.data.specs import DatasetSpec
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically
from benchmark.utils.words import counted


@dataclass(frozen=True)
class Prepared:
    """Result of :func:`benchmark.data.prepare.prepare.prepare_dataset`."""

    folder: Path  # the dataset's folder
    layout: Layout  # of the source
    images: int  # number of images in the folder now
    labels: int  # number of labels in the folder now
    copied: int  # number of files that this call wrote
    skipped: int  # number of files of the source that the folder already held with the same content
    notes: tuple[str, ...]  # sentences for the user


def prepare_sources(spec: DatasetSpec, source: Path, target: Path) -> Prepared:
    """Make a dataset from its source files, which are checked by SHA-256 before anything is written.

    A known open picture is made by its recipe, and what comes out is compared with the hash that is written down.
    Another dataset's files are copied to the paths of their ``to``; files without it are only checked.

    Args:
        spec: names the source files.
        source: a git clone or a folder that holds them.
        target: the dataset's folder.

    Raises:
        UserError: a missing or changed source file, or a file of another content at a path of the dataset.
    """
    from benchmark.data.prepare.open_pictures import RECIPES, differing_pixels

    contents = read_sources(spec.source, source)
    if spec.name in RECIPES:
        made = RECIPES[spec.name](contents)
        notes = differing_pixels(spec.name, made)
        files: Mapping[str, bytes] = {path: _png(pixels) for path, pixels in made.items()}
    else:
        files, notes = _copies(spec.source, contents), ()
    existing = {path for path, content in files.items() if _is_there(target / path, content)}
    for path, content in files.items():
        if path not in existing:
            write_atomically(target / path, content)
    images = sum(path.startswith("image/") for path in files)
    labels = sum(path.startswith("label") for path in files)
    return Prepared(
        target, "folders", images, labels, len(files) - len(existing), len(existing), (*_sources(spec), *notes)
    )


def _copies(sources: tuple[SourceFile, ...], contents: Mapping[str, bytes]) -> dict[str, bytes]:
    copies = {file.to: contents[file.file] for file in sources if file.to}
    if not copies:
        raise UserError(
            f"{sources[0].file}: no [[source]] says where its file goes; expected `to`, such as "
            'to = "image/scan.jpg" and to = "label/scan.png"'
        )
    return copies


def _sources(spec: DatasetSpec) -> list[str]:
    """Name sources and licences, which a user must know before publishing pixels."""
    licences = dict.fromkeys(f"{file.address} ({file.licence or 'licence not stated'})" for file in spec.source)
    checked = f"{counted(len(spec.source), 'source file')} as written down, from {', '.join(licences)}"
    return [checked, *([f"cite: {spec.citation}"] if spec.citation else [])]


def _png(pixels: UInt8Array) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def _is_there(path: Path, content: bytes) -> bool:
    """Return whether a file holds this content, as bytes or as pixels, since versions of PNG's packing differ."""
    if not os.path.lexists(path):
        return False
    with contextlib.suppress(OSError, UnidentifiedImageError):
        if path.read_bytes() == content:
            return True
        with open_image(path) as file, Image.open(io.BytesIO(content)) as other:
            if np.array_equal(np.asarray(file), np.asarray(other)):
                return True
    raise UserError(
        f"{path}: exists with other content than its source gives; nothing is overwritten: move it elsewhere, or "
        "choose another --data-root"
    )
