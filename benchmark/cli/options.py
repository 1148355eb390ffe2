"""Defines the flags that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion

Models = Annotated[
    str,
    typer.Option(
        help="Comma list of names, groups (all, lightweight, ic, reviewers), wildcards, smp/ARCHITECTURE/ENCODER, or "
        "path/to/file.py:Class.",
        autocompletion=completion.models,
    ),
]
Datasets = Annotated[
    str,
    typer.Option(
        help="Comma list of omc, miic, hy5syn, omv, NAME-syn for a stand-in, or folders of --data-root.",
        autocompletion=completion.datasets,
    ),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        help="paper, strict, small, quick, open, standins, or a TOML file.", autocompletion=completion.protocols
    ),
]
Repeats = Annotated[
    int | None, typer.Option(help="Repeats per model and dataset; default: the protocol's, or one per fold.")
]
StudyName = Annotated[
    str | None,
    typer.Option(help="Name of the study; default: the protocol's name.", autocompletion=completion.studies),
]
Results = Annotated[Path, typer.Option(help="Folder of studies.")]
DataRoot = Annotated[Path, typer.Option(help="Folder of datasets, one folder each; may be read-only.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for decoded datasets; default: DATA_ROOT/.cache.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]
Repeat = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Repeat whose weights are used, from 0; default: for each network, the kept repeat with the lowest "
        "validation loss.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Method under test, which the report compares all models with; default: as before, else eal_icnet.",
        autocompletion=completion.models,
    ),
]
TrainedOn = Annotated[
    str | None,
    typer.Option(
        "--datasets", help="Training set of the weights, such as omc or omc+miic; default: the study's only one."
    ),
]
FinishedStudy = Annotated[
    str | None,
    typer.Option("--study", help="Study of the weights: a name or a path.", autocompletion=completion.studies),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Weights of one network from elsewhere, instead of --study: safetensors, or a state_dict saved by torch. "
        "Gray or RGB, as they fit; threshold 0.5.",
    ),
]
TrainedAt = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="PX",
        help="Side of the training's inputs, pixels, with --weights; default: 512, as protocol paper.",
    ),
]
LayerNames = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="NAME,NAME",
        help="Layers that --weights mark, in the order of the logits, such as track,via; default: a single one.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one setting of the protocol; repeatable."),
]
