"""Reads the scalars and settings that trackers wrote, mostly by the tools' own readers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Events = dict[str, list[tuple[int, float]]]
BLOCK = 2**15


def read(folder: Path) -> tuple[Events, dict[str, str]]:
    """Step and value of every scalar in the tracker's folder, and its settings as texts."""
    return {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}[folder.name](folder)


def _tensorboard(folder: Path) -> tuple[Events, dict[str, str]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    name = "_hparams_/session_start_info"
    content = events.summary_metadata[name].plugin_data.content if name in events.summary_metadata else b""
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    return scalars, {name: str(getattr(value, value.WhichOneof("kind"))) for name, value in settings.items()}


def _mlflow(folder: Path) -> tuple[Events, dict[str, str]]:
    from mlflow.entities import ViewType
    from mlflow.store.tracking.file_store import FileStore

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    store = FileStore(str(folder))
    (run,) = store.search_runs(["0"], "", ViewType.ALL)
    scalars = {
        name: [(metric.step, metric.value) for metric in store.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    return scalars, run.data.params


def _wandb(folder: Path) -> tuple[Events, dict[str, str]]:
    scalars: Events = {}
    settings = {}
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            row = {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for name in row.keys() - {"steps"}:
                if not name.startswith("_"):
                    scalars.setdefault(name, []).append((row["steps"], row[name]))
        settings |= {item.key: str(json.loads(item.value_json)) for item in record.config.update}
    return scalars, settings


def wandb_records(folder: Path) -> Iterator[Any]:
    """Records of the one run's file, in the log format of LevelDB behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("*.wandb")
    content, start, record = file.read_bytes(), 7, b""
    while start < len(content):
        length, kind = struct.unpack("<4xHB", content[start : start + 7])
        start += 7 + length
        record += content[start - length : start]
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""
        if BLOCK - start % BLOCK < 7:
            start += BLOCK - start % BLOCK  # no header crosses the border of a block
