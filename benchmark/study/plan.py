"""Plans a study: compares the call with the files in the study's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmark.config.protocol import Protocol
from benchmark.records.packed_study import is_packed
from benchmark.records.run_record import Record
from benchmark.records.store import RECORD, Broken
from benchmark.runs.jobs import EfficiencyJob, EnsembleJob, TrainJob
from benchmark.runs.staleness import Staleness, run_name
from benchmark.study import ensemble_plan, stress_plan
from benchmark.study.stress_plan import PlannedStress
from benchmark.study.study import Study
from benchmark.study.time_estimate import Basis
from benchmark.study.time_left import ExpectedWork
from benchmark.utils.errors import UserError
from benchmark.utils.files import modified_ns


@dataclass(frozen=True)
class Plan:
    """The work of a call."""

    done: list[Record]
    todo: list[TrainJob]  # in order
    failed: list[Record]  # earlier failures, skipped without --retry-failed
    stale: list[Record]  # set aside first
    measurements: list[EfficiencyJob]
    seconds: float  # estimate; for training an upper limit, since early stopping cannot be foreseen
    basis: Basis  # source of the estimate
    refusal: str = ""  # why the plan is refused; blank if it is not
    #: Runs with unreadable records; those that are asked for are also in ``todo`` and set aside first.
    broken: list[Broken] = field(default_factory=list)
    stress: list[PlannedStress] = field(default_factory=list)
    ensembles: list[EnsembleJob] = field(default_factory=list)
    seen: Protocol | None = None  # the protocol in the study's folder when the plan was made
    replaces: bool = False  # whether runs under another protocol may be set aside
    expected: ExpectedWork = field(default_factory=ExpectedWork)  # what the work takes, report included
    whole: bool = True  # whether it has every run that the call asks for, and not one that is repeated
    taken_over: list[str] = field(default_factory=list)  # the other study of each measurement that is taken over

    @property
    def nothing_left(self) -> bool:
        """Whether there is nothing to run, measure or test."""
        return not (self.todo or self.measurements or self.stress or self.ensembles)

    @property
    def runs(self) -> int:
        """Number of all runs of the plan."""
        return len(self.done) + len(self.todo) + len(self.failed)


def make_plan(study: Study, *, retry_failed: bool = False, replace_stale: bool = False, refuse: bool = True) -> Plan:
    """Compare the call with the files of the study's folder; no file changes.

    Args:
        study: the study.
        retry_failed: run failed runs again.
        replace_stale: plan to set aside runs made under other settings, data or code, and run them again.
        refuse: raise if stale runs forbid the plan, instead of only noting it in the plan.

    Raises:
        UserError: the folder holds runs made under other settings (names the fields), or by a newer release.
    """
    if study.start and study.protocol.training.encoder_weights:
        raise UserError(f"{study.start.flag} and training.encoder_weights: give one; the first replaces all weights")
    if study.stress:
        study.stress.refuse(study.tested, study.keep_weights, study.protocol.split.folds)
    if study.ensembles:
        ensemble_plan.refuse_ensembles(study)
    jobs, seen = study.jobs(), study.store.read_protocol()
    # Read before the records: a record that is replaced in between counts as tried again.
    written = {run_name(job): modified_ns(job.folder / RECORD) for job in jobs} if retry_failed else {}
    stored, broken = study.store.survey()
    records = {run_name(record): record for _, record in stored}
    staleness = staleness_of(study, jobs)
    stale = staleness.stale(records.values())
    refusal = "" if replace_stale else staleness.explain(list(stale.values()))
    if refusal and refuse:
        raise UserError(refusal)
    done: list[Record] = []
    todo: list[TrainJob] = []
    failed: list[Record] = []
    for job in jobs:
        run = run_name(job)
        record = records.get(run)
        if record is None or run in stale or record.status == "interrupted":
            todo.append(job)
        elif record.status == "ok":
            done.append(record)
        elif retry_failed:
            todo.append(replace(job, retry=written[run]))
        else:
            failed.append(record)
    measurements = study.measurements()
    # On a cluster figures of another machine may be valid; that machine looks for them.
    known = {} if study.hardware.remote else {job: job.taken_over() for job in measurements}
    origins = [record.origin for record in known.values() if record is not None]
    taken_over = [origin.taken_from for origin in origins if origin is not None and origin.taken_from]
    measured = [job for job in measurements if known.get(job) is None]
    seconds, basis = study.costs.estimate(todo, measured)
    stress = stress_plan.plan_stress(study, jobs, todo) if study.stress else []
    tests = stress_plan.expected_stress(study, stress)
    ensembles = ensemble_plan.plan_ensembles(study, jobs, todo) if study.ensembles else []
    of_ensembles = ensemble_plan.expected_ensembles(study, ensembles)
    seconds += tests.seconds + sum(job.seconds for job in of_ensembles.values()) / len(study.hardware.slots)
    expected = study.costs.expected(todo, measured, tests, len(jobs))
    if is_packed(study.folder) and (todo or measurements or stress or ensembles or stale):
        packed = f"{study.folder}: is packed, and there is more to run; unpack it first (`unpack {study.folder.name}`)"
        refusal = refusal or packed
        if refuse:
            raise UserError(packed)
    return Plan(
        *(done, todo, failed, list(stale.values()), measurements, seconds, basis, refusal, broken, stress, ensembles),
        seen=seen,
        expected=replace(expected, jobs={**expected.jobs, **of_ensembles}),
        replaces=replace_stale,
        taken_over=taken_over,
    )


def staleness_of(study: Study, jobs: Sequence[TrainJob] | None = None) -> Staleness:
    """Return the comparison of records with a study's jobs; ``None`` makes the jobs anew."""
    asked = {run_name(job): job for job in (study.jobs() if jobs is None else jobs)}
    return Staleness(study.store, study.protocol, asked, study.tasks, fine_tuned=study.start is not None)
