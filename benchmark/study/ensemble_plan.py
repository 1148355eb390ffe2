"""Plans the tests of ensembles, the mean of each network's repeats."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.data.datasets import Source
from benchmark.records.ensemble_record import EnsembleMember
from benchmark.records.store import WEIGHTS
from benchmark.runs.jobs import EnsembleJob, TrainJob
from benchmark.runs.staleness import run_name
from benchmark.study.stress_plan import by_network, has_finished, has_weights
from benchmark.study.study import Study
from benchmark.study.time_estimate import count_test_images
from benchmark.study.time_left import ExpectedJob
from benchmark.utils.errors import UserError


def refuse_ensembles(study: Study) -> None:
    """Refuse ensembles that cannot be, before any work.

    Raises:
        UserError: a cross-validation, a single repeat, or weights that are not kept.
    """
    if study.protocol.split.folds:
        raise UserError(
            "--ensembles: with split.folds, each test image has trained all repeats but one, so their mean cannot be "
            "tested; leave out one or the other (predict --repeats all averages them on new images)"
        )
    if study.protocol.repeats < 2:
        raise UserError(
            "--ensembles: averages the repeats of each network, and there is one; expected two or more, as with "
            "--repeats 3"
        )
    if study.keep_weights != "all":
        raise UserError(
            f"--ensembles: needs the weights of all repeats, which --keep-weights {study.keep_weights} throws away; "
            "leave that out, since --ensembles keeps them all"
        )


def ensemble_jobs(study: Study, asked: Sequence[TrainJob]) -> list[EnsembleJob]:
    """Return the tests that are left, of the networks whose repeats have all finished."""
    jobs = []
    for runs in by_network(asked):
        if all(map(has_weights, runs)):
            tested = {test for run in runs if (record := run.recorded()) for test in record.metrics}
            sources = [source for source in runs[0].task.test if tested.issuperset(source.tests)]  # with test images
            jobs.append(_job(runs, sources, [study.hashes.digest(run.folder / WEIGHTS) for run in runs]))
    study.hashes.save()
    return [job for job in jobs if job.left()]


def plan_ensembles(study: Study, asked: Sequence[TrainJob], todo: Sequence[TrainJob]) -> list[EnsembleJob]:
    """Return the tests that are left, also of networks that are not trained yet.

    Networks with a failed repeat are passed over: their rows in the report say so.

    Raises:
        UserError: the weights of finished runs were not kept.
    """
    names = set(map(run_name, todo))
    planned: list[EnsembleJob] = []
    lost: list[TrainJob] = []
    for runs in by_network(asked):
        trained = [run for run in runs if run_name(run) not in names]
        if not all(map(has_finished, trained)):
            continue
        without = [run for run in trained if not has_weights(run)]
        lost += without
        if len(trained) < len(runs):
            planned.append(_job(runs, runs[0].task.test, [""] * len(runs)))
        elif not without:
            planned += ensemble_jobs(study, runs)
    if lost:
        models = ",".join(dict.fromkeys(run.entry.name for run in lost))
        raise UserError(
            f"--ensembles: {study.folder} keeps no weights of {', '.join(run.label for run in lost)}, whose runs are "
            f"done; train them again in another --study, or leave {models} out of --models"
        )
    return planned


def expected_ensembles(study: Study, planned: Sequence[EnsembleJob]) -> dict[str, ExpectedJob]:
    """Return estimates of the time of tests by label: a forward of every member for each image."""
    return {
        job.label: ExpectedJob(
            study.costs.forward(job.training)
            * len(job.members)
            * sum(count_test_images(source, study.protocol) for source, _ in job.tests),
            job.entry.name,
        )
        for job in planned
    }


def _job(runs: Sequence[TrainJob], sources: Sequence[Source], weights: Sequence[str]) -> EnsembleJob:
    members = (
        EnsembleMember(repeat=run.repeat, key=run.key, weights=digest)
        for run, digest in zip(runs, weights, strict=True)
    )
    return EnsembleJob(runs[0], tuple((source, None) for source in sources), tuple(members))
