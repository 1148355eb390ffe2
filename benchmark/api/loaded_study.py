"""Reads the results of a study into tables, plots and networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.api.ready_network import ReadyNetwork
from benchmark.metrics import ratios
from benchmark.records.method import kept_method
from benchmark.records.own_networks import select_networks
from benchmark.records.weights import TrainedNetwork, find_members, find_trained
from benchmark.report.merge import merge
from benchmark.report.plots import plot_style
from benchmark.report.plots.all_plots import PLOTS
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables import accuracy_table, conventions, paper_table, significance_table
from benchmark.report.tables.all_tables import SECTION_OF, TABLES
from benchmark.report.tables.render import Table
from benchmark.report.up_to_date import FOLDER, PAGE
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.words import counted

TABLE_NAMES = (*SECTION_OF, "runs", "images")
#: Facts that stay in the index of a table where all rows share them.
ALWAYS_IN_INDEX = ("dataset", "metric")


@dataclass(frozen=True, eq=False)
class LoadedStudy:
    """The results of one study, or of several that are read as one.

    Attributes:
        folders: of the studies.
        results: protocol, runs, scores and measurements as the report reads them.
    """

    folders: tuple[Path, ...]
    results: StudyResults

    @classmethod
    def read(cls, folders: Sequence[Path]) -> LoadedStudy:
        """Read a study, or several of the same settings and data as one."""
        return cls(tuple(folders), merge(folders) if len(folders) > 1 else read_study(folders[0]))

    def __repr__(self) -> str:
        """Return the study's name with its networks and datasets."""
        records = [run.record for run in self.results.runs]
        models = ", ".join(dict.fromkeys(record.model for record in records))
        datasets = ", ".join(dict.fromkeys("+".join(record.train) for record in records))
        named = " + ".join(folder.name for folder in self.folders)
        return f"<{named}: {counted(len(records), 'run')}{f' of {models} on {datasets}' * bool(records)}>"

    def table(self, name: str = "accuracy") -> pd.DataFrame:
        """Return a table of the report, or the runs or images behind it.

        Args:
            name: ``accuracy``, ``topology``, ``electrical``, ``transfer``, ``stress``, ``efficiency``, ``profile``,
                ``roofline``, ``growth``, ``training``, ``ablation``, ``bench``, ``methods``, ``networks`` or
                ``custom``, as the files in ``report/tables``; ``runs`` for a row per run with all fields of its record;
                ``images`` for a row per run and test image with counts and metrics.

        Returns:
            For a table of the report, a row per network, indexed by dataset, by the other facts that tell rows apart
            and by the network's name, with columns ``(metric, "mean")``, ``(metric, "std")`` (over repeats, ddof = 1)
            and ``(metric, "n")``; ``remark`` says what qualifies a row. ``attrs`` holds the facts that all rows share,
            such as protocol and reduction. Values are unrounded: fractions, not per cent. ``methods`` and ``networks``
            have the columns of their CSV files instead.

        Raises:
            UserError: there is no such table; ``custom`` is there once ``report`` was asked for a table for a paper.

        Example:
            >>> study = benchmark.load("results/quick")                                          # doctest: +SKIP
            >>> study.table("accuracy").loc["omc-syn"]["miou"].sort_values("mean")  # doctest: +SKIP
        """
        if name == "runs":
            return pd.json_normalize([run.record.model_dump(mode="json", by_alias=True) for run in self.results.runs])
        if name == "images":
            return pd.DataFrame(self._images())
        if name not in TABLE_NAMES:
            raise UserError(f"no table {name!r}{did_you_mean(name, TABLE_NAMES)}; expected {', '.join(TABLE_NAMES)}")
        with self._naming():
            made = next((entry.make for entry in TABLES if entry.name == name), None)
            if made is not None:
                return _frame(made(self.results))
            return _frame(self._paper_table()) if name == paper_table.NAME else self._compared(name)

    def plots(self, name: str = "accuracy") -> dict[str, Figure]:
        """Draw the report's plots that belong to a table.

        Args:
            name: of the table.

        Returns:
            matplotlib's figures by the names of their files, which notebooks show; none where the study lacks data.

        Raises:
            UserError: no plot belongs to such a table.
        """
        plots = [plot for plot in PLOTS if plot.table == name]
        if not plots:
            names = tuple(dict.fromkeys(plot.table for plot in PLOTS))
            raise UserError(f"no plots of {name!r}{did_you_mean(name, names)}; expected {', '.join(names)}")
        with self._naming():
            figures = dict(drawn for plot in plots for drawn in plot.draw(self.results))
        for figure in figures.values():  # IPython knows figures of pyplot alone
            setattr(figure, "_repr_png_", partial(plot_style.save, figure, "png"))  # noqa: B010  # unknown to matplotlib
        return figures

    def network(
        self,
        model: str,
        trained_on: str | None = None,
        repeat: int | None = None,
        device: str = "auto",
        *,
        repeats: str | Sequence[int] | None = None,
    ) -> ReadyNetwork:
        """Return a trained network with its kept weights, ready for images of any size.

        Args:
            model: its name in the study.
            trained_on: the training set, such as ``omc-syn`` or ``omc+miic``; may be left out if there is only one.
            repeat: whose weights are used; by default the kept repeat with the lowest validation loss.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            repeats: ``all`` or numbers, such as ``[0, 2]``: the mean of their probabilities, in place of ``repeat``.

        Raises:
            UserError: no such network, several, or no weights of it.
        """
        names = dict.fromkeys(run.record.model for run in self.results.runs)
        if ".py:" not in model and model not in names:
            raise UserError(f"no network {model!r}{did_you_mean(model, names)}; expected one of {', '.join(names)}")
        asked = f"repeat={repeat}" if repeats is None else f"repeats={repeats!r}"
        if repeat is not None and repeats is not None:
            raise UserError(f"repeat={repeat} and {asked}: one network, or the mean of several; leave out one")
        if (repeat is not None or repeats is not None) and len(self.folders) > 1:
            raise UserError(f"{asked}: several studies have such a repeat; load the one that trained it")
        if repeats is not None:
            (entry,), (folder,) = select_networks(self.folders[0], model), self.folders
            text = repeats if isinstance(repeats, str) else ",".join(map(str, repeats))
            return ReadyNetwork.of(find_members(folder, entry, trained_on, text), device)
        found, faults = list[TrainedNetwork](), list[str]()
        for folder in self.folders:
            try:
                found += find_trained(folder, select_networks(folder, model), trained_on, repeat)
            except UserError as error:  # another study may have its weights
                faults.append(str(error))
        if not found:
            raise UserError("; ".join(dict.fromkeys(faults)))
        return ReadyNetwork.of([min(found, key=_validation_loss)], device)

    @property
    def page(self) -> Path:
        """The report's page of a single study, which ``run`` and the verb ``report`` write."""
        return self.folders[0] / FOLDER / PAGE

    def _paper_table(self) -> Table:
        """Return the table for a paper that the verb ``report`` was last asked for."""
        folder = self.folders[0]
        choice = paper_table.kept_choice(folder / FOLDER / paper_table.CHOICE) if len(self.folders) == 1 else None
        if choice is None:
            raise UserError(
                f"no table {paper_table.NAME!r}: nobody chose one for {' + '.join(map(str, self.folders))}; "
                "`report STUDY --columns miou,params` makes it"
            )
        return paper_table.table(self.results, choice)

    def _compared(self, name: str) -> pd.DataFrame:
        """Return the lines of a table of differences to the reference model."""
        blocks = accuracy_table.scores(self.results, accuracy_table.ACCURACY).blocks
        for compared in significance_table.written(self.results, blocks, kept_method(self.folders[0])):
            if compared.table.name == name:
                frame = pd.DataFrame(compared.lines, columns=list(compared.fields))
                facts = list(compared.fields[: compared.fields.index("model")])
                return _without_shared(frame.set_index([*facts, "model"]), facts)
        return pd.DataFrame()

    def _naming(self) -> AbstractContextManager[None]:
        return conventions.naming(self.results.networks.values(), kept_method(self.folders[0]))

    def _images(self) -> Iterator[dict[str, object]]:
        for run in self.results.runs:
            facts = {"train": "+".join(run.record.train), "model": run.record.model, "repeat": run.record.repeat}
            for test, scores in run.scores.items():
                values = {**ratios(scores.columns), **scores.columns}
                columns = {name: column.tolist() for name, column in values.items()}
                for number, image in enumerate(scores.images):
                    cells = {name: column[number] for name, column in columns.items()}
                    yield {**facts, "test": test, "image": image, "group": scores.groups[number], **cells}


def _validation_loss(network: TrainedNetwork) -> float:
    training = network.record.training if network.record else None
    loss = training.best_validation_loss if training else None
    return math.inf if loss is None else loss


def _frame(table: Table) -> pd.DataFrame:
    """Return a row per block and model, with mean, std and n of each figure."""
    rows, index = [], []
    facts = list(dict.fromkeys(name for block in table.blocks for name in block.facts))
    for block in table.blocks:
        for row in block.rows:
            index.append((*(block.facts.get(name, "") for name in facts), row.key))
            parts: dict[tuple[str, str], float | str] = {}
            for key, cell in row.cells.items():
                std = math.nan if cell.std is None else cell.std
                parts |= {(key, "mean"): cell.mean, (key, "std"): std, (key, "n"): cell.n}
            rows.append(parts | ({("remark", ""): row.remark} if row.remark else {}))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for cells in rows:
        cells |= {column: 0 for column in columns if column[1] == "n" and column not in cells}
    frame = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(columns, names=["metric", None]) if columns else None)
    if index:
        frame.index = pd.MultiIndex.from_tuples(index, names=[*facts, "model"])
        frame = _without_shared(frame, facts)
    return frame


def _without_shared(frame: pd.DataFrame, facts: Sequence[str]) -> pd.DataFrame:
    """Move the facts that all rows share from the index to ``attrs``."""
    values = {name: [*dict.fromkeys(frame.index.get_level_values(name))] for name in facts}
    shared = [name for name in facts if name not in ALWAYS_IN_INDEX and len(values[name]) == 1]
    frame = frame.reset_index(shared, drop=True)
    frame.attrs = {name: values[name][0] for name in shared}
    return frame
