"""Recognises the layout of a download, and assigns paths to its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from benchmark.data.formats.all_formats import label_suffixes
from benchmark.data.formats.images import IMAGE_SUFFIXES
from benchmark.data.formats.svg import HY5SYN_NAME
from benchmark.data.pairs import LAYOUTS, plain_stem
from benchmark.data.prepare.archives import Member
from benchmark.data.prepare.unpack import ARCHIVE_SUFFIX
from benchmark.data.splits import PARTS
from benchmark.utils.errors import UserError

Layout = Literal["folders", "hy5syn", "miic"]
ROLES = {
    **dict.fromkeys(("image", "images", "img", "imgs"), "image"),
    **dict.fromkeys(("label", "labels", "mask", "masks", "gt", "annotations"), "label"),
    "ignore": "ignore",
}
PART_OF = {**{part: part for part in PARTS}, "valid": "val", "validation": "val"}

# MIIC (doi:10.21979/N9/WBLTFI) has Anomaly_train/, Anomaly_test/{normal_img,abnormal_img,abnormal_mask,...} and
# Inpainting_*/ with images <split>_<normal|abnormal>_<id>.jpg.
MIIC_ARCHIVE = re.compile(r"anomaly_(train|val|test).*|inpainting_.+")
MIIC_FOLDER = re.compile(r"(normal|abnormal)_(img|mask)")
MIIC_IMAGE = re.compile(r"(train|val|test)_(normal|abnormal)_.+", re.IGNORECASE)
NO_IMAGES = re.compile(r"mask|label|gt|truth|annot")  # in the name of a folder
TRACKS = frozenset({"label", "labels"})

EXPECTED = (
    "expected image/ and label/, alone or inside each of train/ val/ test/; sems/sem0001.png with "
    "labels/label0001.svg (HY5SYN); or Anomaly_train, Anomaly_test, Inpainting_* (MIIC)"
)


@dataclass(frozen=True)
class Assignment:
    """Paths of a download's files in a dataset's folder."""

    layout: Layout  # of the download
    parts: tuple[str, ...]  # ``train val test``, or an empty name without a division
    files: dict[str, Member]  # path below the dataset's folder -> source, in the order of the source
    left_out: tuple[str, ...]  # paths of the other files
    repeated: int = 0  # number of images left out because of another image with the same stem


@dataclass(frozen=True)
class _File:
    """A member and the parts of its path; folders are in lower case, without archive suffixes and repeated names."""

    index: int
    folders: tuple[str, ...]
    name: str
    member: Member

    @classmethod
    def of(cls, index: int, member: Member) -> _File:
        *folders, name = member.path.split("/")
        plain = (ARCHIVE_SUFFIX.sub("", folder).casefold() for folder in folders)
        # Without repeated names: images.zip may hold images/0001.png or 0001.png.
        return cls(index, tuple(folder for folder, _ in groupby(plain)), name, member)

    @property
    def folder(self) -> str:
        """The innermost folder, or ``""``."""
        return self.folders[-1] if self.folders else ""

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def has(self, suffixes: Collection[str]) -> bool:
        return self.suffix.lower() in suffixes


def recognise(source: Path, members: Sequence[Member], target: Path) -> Assignment:
    """Assign the images and labels of a download.

    Args:
        source: the download; its name can show the layout, such as ``Anomaly_test.zip``.
        members: its files.
        target: the dataset's folder; its images and labels can pair with those of the download.

    Raises:
        UserError: unknown or ambiguous layout, a missing part of train/val/test, two files for the same path, a
            HY5SYN or MIIC label without image.
    """
    files = [_File.of(index, member) for index, member in enumerate(members)]
    layout, parts, chosen, repeated = _arranged(source, files, target)
    chosen.sort(key=lambda pair: pair[1].index)
    first: dict[str, _File] = {}
    for path, file in chosen:
        other = first.setdefault(path.casefold(), file)
        if other is not file:
            raise UserError(
                f"{file.member.where} and {other.member.where}: both would become {path}; remove or rename one of them"
            )
    chosen_files = {file.index for _, file in chosen}
    left_out = tuple(file.member.path for file in files if file.index not in chosen_files)
    return Assignment(layout, parts, {path: file.member for path, file in chosen}, left_out, repeated)


def present(folder: Path, suffixes: Collection[str]) -> set[str]:
    """Return the names of a folder's images or labels; the folder need not exist.

    Raises:
        UserError: the folder cannot be listed.
    """
    try:
        return {file.name for file in folder.iterdir() if file.suffix.lower() in suffixes and file.name[0] != "."}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); expected a readable folder") from error


Arranged = tuple[Layout, tuple[str, ...], list[tuple[str, _File]], int]


def _arranged(source: Path, files: Sequence[_File], target: Path) -> Arranged:
    own = ARCHIVE_SUFFIX.sub("", source.resolve().name).casefold()
    folders = {own}.union(*(file.folders for file in files))
    images = [file for file in files if file.has(IMAGE_SUFFIXES)]
    # Beside MIIC's images a folder masks/ holds defects; only label/ can be the user's own.
    unlabelled = not any(file.folder in TRACKS for file in files)
    if any(MIIC_ARCHIVE.fullmatch(folder) or MIIC_FOLDER.fullmatch(folder) for folder in folders) or (
        unlabelled and any(MIIC_IMAGE.fullmatch(file.stem) for file in images)
    ):
        return _miic(source, files, own, target)
    names = LAYOUTS["hy5syn"]
    if any(file.folder == names.image and names.image_key.fullmatch(file.stem) for file in images) or (
        any(file.folder == names.label and HY5SYN_NAME.fullmatch(file.name) for file in files)
        and not any(ROLES.get(file.folder) == "image" for file in images)
    ):
        return _hy5syn(source, files, target)
    return _folders(source, files)


def _miic(source: Path, files: Sequence[_File], own: str, target: Path) -> Arranged:
    def of_owner(file: _File) -> bool:
        return any(MIIC_ARCHIVE.fullmatch(folder) for folder in (own, *file.folders))

    def inpainting(file: _File) -> bool:
        return any(folder.startswith("inpainting_") for folder in (own, *file.folders))

    candidates = [
        file
        for file in files
        if file.has(IMAGE_SUFFIXES) and MIIC_IMAGE.fullmatch(file.stem) and not NO_IMAGES.search(file.folder)
    ]
    images: dict[str, _File] = {}
    for file in sorted(candidates, key=inpainting):
        other = images.setdefault(file.stem, file)
        if other is not file and not inpainting(file):
            raise UserError(f"{file.member.where} and {other.member.where}: images of the same stem; keep one of them")
    if not images:
        raise UserError(
            f"{source}: looks like MIIC, but holds no image named as train_normal_0001.jpg; found "
            f"{_summary(files)}; {EXPECTED}"
        )
    stems = images.keys() | {Path(name).stem for name in present(target / "image", IMAGE_SUFFIXES)}
    labels = _labels([f for f in files if f.folder in TRACKS and f.has(label_suffixes()) and not of_owner(f)], stems)
    orphan = next((file for stem, file in labels if stem not in stems), None)
    if orphan is not None:
        raise UserError(f"{orphan.member.where}: label without image; add the image of its stem or remove the label")
    chosen = [(f"image/{file.name}", file) for file in images.values()]
    chosen += [(f"label/{stem}{file.suffix}", file) for stem, file in labels]
    return "miic", ("",), chosen, len(candidates) - len(images)


def _hy5syn(source: Path, files: Sequence[_File], target: Path) -> Arranged:
    names = LAYOUTS["hy5syn"]
    numbers: dict[str, set[str]] = {}
    chosen: list[tuple[str, _File]] = []
    for folder, suffixes, key, example in (
        (names.image, IMAGE_SUFFIXES, names.image_key, "sem0001.png"),
        (names.label, label_suffixes(), names.label_key, "label0001.svg"),
    ):
        candidates = [file for file in files if file.folder == folder and file.has(suffixes)]
        _require_one(source, f"folders {folder}/", {file.folders for file in candidates})
        earlier = (key.fullmatch(Path(name).stem) for name in present(target / folder, suffixes))
        numbers[folder] = {match[1] for match in earlier if match}
        for file in candidates:
            match = key.fullmatch(file.stem)
            if match is None:
                raise UserError(f"{file.member.where}: expected a name such as {example}; rename or remove it")
            if folder == names.label and match[1] not in numbers[names.image]:
                raise UserError(
                    f"{file.member.where}: label without image; expected {names.image}/sem{match[1]}.png in {source} "
                    f"or in {target}: add it or remove the label"
                )
            numbers[folder].add(match[1])
            chosen.append((f"{folder}/{file.name}", file))
    return "hy5syn", ("",), chosen, 0


def _folders(source: Path, files: Sequence[_File]) -> Arranged:
    parts_of: dict[tuple[str, ...], dict[str, dict[str, list[_File]]]] = {}  # parent folder -> part -> role -> files
    for file in files:
        role = ROLES.get(file.folder)
        if role and file.has(label_suffixes(many=True) if role == "label" else IMAGE_SUFFIXES):
            parent = file.folders[:-1]
            part = PART_OF.get(parent[-1], "") if parent else ""
            roles = parts_of.setdefault(parent[:-1] if part else parent, {}).setdefault(part, {})
            roles.setdefault(role, []).append(file)
    paired = {"image", "label"}
    parents = [parent for parent, parts in parts_of.items() if any(paired <= roles.keys() for roles in parts.values())]
    if not parents:
        raise UserError(f"{source}: found {_summary(files)}; {EXPECTED}")
    _require_one(source, "folders with image/ and label/", parents)
    parts = parts_of[parents[0]]
    division = _division(source, parents[0], parts)
    chosen: list[tuple[str, _File]] = []
    used: set[tuple[str, ...]] = set()
    for part, roles in parts.items():
        for role, role_files in roles.items():
            folders = {file.folders for file in role_files}
            _require_one(source, f"folders that may be {role}/", folders)
            used |= folders
            stems = {file.stem for file in roles["image"]}
            pairs = _labels(role_files, stems) if role == "label" else [(file.stem, file) for file in role_files]
            chosen += [("/".join(filter(None, (part, role, stem + file.suffix))), file) for stem, file in pairs]
    for file in files:
        if file.has(label_suffixes()) and any(file.folders[:end] in used for end in range(len(file.folders))):
            raise UserError(
                f"{file.member.where}: in a folder of its own inside the images or labels; expected them side by side: "
                "move it there or elsewhere"
            )
    return "folders", division, chosen, 0


def _division(source: Path, parent: tuple[str, ...], parts: dict[str, dict[str, list[_File]]]) -> tuple[str, ...]:
    """Return the parts of a folder; refuse a division that a loader cannot read."""
    where = "/".join((str(source), *parent))
    division = tuple(part for part in PARTS if part in parts)
    if division and "" in parts:
        raise UserError(
            f"{where}: both image/ label/ and {'/ '.join(division)}/; expected one of the two: move the other elsewhere"
        )
    if division and len(division) < len(PARTS):
        missing = "/ ".join(part for part in PARTS if part not in parts)
        raise UserError(
            f"{where}: found {'/ '.join(division)}/ but not {missing}/; expected image/ and label/ inside all of "
            "train/ val/ test/, or alone: divide or join them"
        )
    for part, roles in parts.items():
        for role in ("image", "label"):
            if role not in roles:
                raise UserError(f"{where}: no {role}/ with files {f'in {part}/' if part else ''}; add it")
    return division or ("",)


def _labels(labels: Collection[_File], images: Collection[str]) -> list[tuple[str, _File]]:
    """Return labels with the stems of their images; a label's own stem may end in ``_mask`` or ``_``."""
    stems = {file.stem for file in labels}
    plain = {stem: plain_stem(stem) for stem in stems - set(images)}
    renamed = {stem: other for stem, other in plain.items() if other in images and other not in stems}
    return [(renamed.get(file.stem, file.stem), file) for file in labels]


def _require_one(source: Path, kind: str, folders: Collection[tuple[str, ...]]) -> None:
    if len(folders) > 1:
        names = sorted("/".join(folder) or "." for folder in folders)
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise UserError(
            f"{source}: {len(names)} {kind}: {', '.join(names[:8])}{more}; expected one: name the folder or archive "
            "that is meant, or move the others elsewhere"
        )


def _summary(files: Sequence[_File]) -> str:
    """Summarise the suffixes and folders of a download."""
    if not files:
        return "no files"
    folders = Counter(f"{file.member.path.partition('/')[0]}/" for file in files if file.folders).most_common(8)
    suffixes = Counter(file.suffix.lower() or "no suffix" for file in files).most_common(8)
    counted = ", ".join(f"{count} {suffix}" for suffix, count in suffixes)
    return f"{counted} in {', '.join(name for name, _ in folders) or 'no folder'}"
