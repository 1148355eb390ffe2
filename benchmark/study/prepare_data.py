"""Prepares packs, splits, reference rows and panel images that a study's runs share."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.data import tasks
from benchmark.data.check.judgement import not_searched
from benchmark.data.datasets import Source
from benchmark.data.packs import Pack, open_pack
from benchmark.data.pairs import folders_among
from benchmark.executors.events import Event, Note, Packing
from benchmark.records.packed_study import is_stored
from benchmark.records.store import Shared
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically


def prepare(study: Study, emit: Callable[[Event], None], needed: set[str]) -> None:
    """Build packs that are missing or that runs need; per dataset, score methods without training, store a few images.

    Files made from other data or by other code are made again.

    Raises:
        UserError: data cannot be used, or a run is under way with other data of the same name.
    """
    from benchmark.evaluation.reference_methods import REFERENCE_METHODS

    packs: dict[str, Pack] = {}
    for source in study.sources:
        shared = Shared.of(study.protocol, source.fingerprint)
        methods = REFERENCE_METHODS if source in study.tested else ()
        current = study.store.shared(source.name) == shared
        missing = [
            name
            for name in methods
            if not current or not all(is_stored(study.store.reference_file(test, name)) for test in source.tests)
        ]
        if not missing and source.name not in needed:
            continue
        pack = open_pack(source, study.protocol, study.cache, lambda *of, name=source.name: emit(Packing(name, *of)))
        folders = [f"{folder.parent.name}/{folder.name}" for folder in folders_among(p.image for p in source.pairs)]
        for note in filter(None, [*pack.notes_under(study.protocol), not_searched(folders)]):
            emit(Note(source.name, note))
        packs[source.name] = pack
        if not current:
            _renew(study, source)
        _write(study, source, pack, missing, shared)
    for task in study.tasks:
        if packs.keys() >= {source.name for source in task.sources}:
            tasks.refuse_overlap(task, packs, study.protocol)


def _renew(study: Study, source: Source) -> None:
    """Remove the shared files of a dataset; refuse while a claimed run uses them."""
    if study.store.shared(source.name) is not None:
        for folder in study.store.claimed():
            if source.name in folder.parent.parent.name.split("+"):
                raise UserError(
                    f"{source.name}: another process is doing {'/'.join(folder.parts[-3:])} with other content of "
                    "it, or by another release; wait for it or stop it, or choose another study (--study NAME)"
                )
    study.store.remove_shared(source.name)


def _write(study: Study, source: Source, pack: Pack, missing: list[str], shared: Shared) -> None:
    """Write a dataset's files; the split, which holds their origin, last."""
    from benchmark.evaluation import kept_images
    from benchmark.evaluation.counts import counts_csv
    from benchmark.evaluation.reference_methods import score_reference

    tested = pack.tested(study.protocol)
    for name in missing if tested else []:
        for test, rows in score_reference(name, pack, tested, study.protocol).items():
            write_atomically(study.store.reference_file(test, name), counts_csv(rows))
    if source in study.tested:
        for test, images in kept_images.pack_images(pack, tested, study.protocol).items():
            write_atomically(study.store.images_file(test), images)
    names = [tile.name for tile in pack.tiles]
    study.store.write_split(source.name, shared, pack.divisions(study.protocol), names)
