"""Small COCO files for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.benchmark.data.folder_makers import picture, save

Json = dict[str, Any]
HEIGHT, WIDTH = 20, 30


def plain() -> Json:
    """Two images: one with a track and a via, one without anything."""
    return {
        "info": {"version": "1"},
        "images": [
            {"id": 7, "file_name": "scans/0001.png", "width": WIDTH, "height": HEIGHT},
            {"id": 9, "file_name": "0002.png", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [{"id": 1, "name": "Metal 1"}, {"id": 2, "name": "via"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [box(2, 3, 12, 8), box(10, 5, 20, 9)]},
            {"id": 2, "image_id": 7, "category_id": 2, "iscrowd": 0, "segmentation": [box(4.0, 4.0, 7.0, 7.0)]},
        ],
    }


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def write(root: Path, content: object, name: str = "label/instances.json") -> Path:
    """Write a dataset's folder around a COCO file; text stays as it is."""
    for seed in (1, 2):
        save(root / "image" / f"000{seed}.png", picture(seed, HEIGHT, WIDTH))
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file
