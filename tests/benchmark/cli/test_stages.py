"""``benchmark stages``: one command from a study's weights to the figure, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.config import code_identity, registry
from benchmark.config.protocol import Protocol
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.store import Store
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import TINY, Call

MODEL = f"{TINY}:TinyNet"


@pytest.fixture(scope="module")
def trained(small: Protocol, source: Source, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "base"
    study = Study(folder, small, registry.select(MODEL), [Task((source,), (source,))], Hardware("cpu", 1), cache)
    Store(folder).write_protocol(small)
    train_and_test(replace(make_plan(study).todo[0], keep_weights="all"), lambda *_: None)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A gray image of a bright bar, 40 pixels wide and 50 high."""
    pixels = np.random.default_rng(0).integers(40, 60, (50, 40), dtype=np.uint8)
    pixels[10:20, 5:35] = 200
    Image.fromarray(pixels).save(tmp_path / "die.png")
    return tmp_path / "die.png"


def arguments(trained: Path, image: Path, *more: str | Path) -> list[str | Path]:
    given: list[str | Path] = ["stages", "--results", trained.parent, "--study", "base", "--models", MODEL]
    return [*given, "--image", image, *more]


def test_figure_of_a_studys_weights_twice_the_same(call: Call, trained: Path, picture: Path) -> None:
    files: list[list[bytes]] = []
    for folder in (Path("one"), Path("two")):
        code, out, err = call(*arguments(trained, picture, "--out", folder))

        assert (code, err) == (0, "")
        assert "omc-syn/tinynet/0" in out
        assert "1/1 · 4 ch · 50×40" in out
        names = [f"omc-syn.die.principal.{kind}" for kind in ("pdf", "png")]
        assert sorted(path.name for path in folder.iterdir()) == names
        files.append([(folder / name).read_bytes() for name in names])
    assert files[0] == files[1]


@pytest.mark.usefixtures("blank_files")
def test_without_out_it_lies_in_the_study(call: Call, trained: Path, picture: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "results" / "base")

    code, out, _ = call(
        *arguments(tmp_path / "results" / "base", picture, "--channel", "variance", "--at", "norm,features")
    )

    assert code == 0
    assert (tmp_path / "results" / "base" / "stages" / "omc-syn.die.variance.png").is_file()
    assert [line.split()[0] for line in out.splitlines() if "channel" in line and "·" in line][1:] == [
        "tinynet", "features",
    ]  # fmt: skip


@pytest.mark.usefixtures("blank_files")
def test_part_of_a_16_bit_colour_image_in_the_images_coordinates(call: Call, trained: Path, tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(900, 1100, (1100, 1500, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", large)
    deep = tmp_path / "deep.tif"

    code, _, err = call(*arguments(trained, deep))
    assert code == 2
    assert "1500 pixels wide and 1100 high; expected at most 1024 on a side" in err
    assert "--window 734,534,32" in err

    code, out, err = call(*arguments(trained, deep, "--window", "734,534,32", "--patch", "740,540,16", "--out", "out"))
    assert (code, err) == (0, "")
    assert "1/1 · 4 ch · 32×32" in out
    assert out.count("note: 16 bits mapped between the image's own") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--window", "0,11,40"), "--window 0,11,40: leaves"),
        (("--window", "1,2"), "--window '1,2': expected X,Y,SIDE"),
        (("--patch", "30,0,11"), "--patch 30,0,11: leaves what the networks see, 40 pixels wide and 50 high"),
        (("--window", "8,8,16", "--patch", "0,0,4"), "--patch 0,0,4: leaves what the networks see, 16 pixels wide"),
        (("--patch", "0,0,0"), "--patch '0,0,0': expected X,Y,SIDE"),
        (("--at", "norms"), "tinynet: --at norms: no such module; did you mean 'norm'?"),
        (("--datasets", "miic"), "trained on omc-syn, not on miic"),
        (("--repeat", "4"), "--repeat 4: --study base keeps weights of tinynet on omc-syn from repeat 0"),
        (("--image", "none.png"), "none.png: no such file"),
        (("--study", "other"), "--study other: no study in"),
        (("--out", "die.png"), "--out die.png: die.png is a file"),
    ],
)
def test_mistake_is_named(call: Call, trained: Path, picture: Path, more: tuple[str, ...], message: str) -> None:
    code, _, err = call(*arguments(trained, picture, *more))

    assert code == 2
    assert message in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("blank_files")
def test_what_a_users_network_cannot_take_is_named_with_a_size_that_it_can(
    call: Call, trained: Path, picture: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.py"
    odd.write_text(
        "from tests.benchmark import tiny\n"
        "class TinyNet(tiny.TinyNet):\n"
        "    def forward(self, x):\n"
        "        if x.shape[-1] % 32:\n"
        "            raise ValueError('sides of 32 only')\n"
        "        return super().forward(x)\n"
    )

    study = shutil.copytree(trained, tmp_path / "results" / trained.name)
    (record,) = study.glob("runs/*/*/*/record.json")  # as if it had trained this network
    (theirs, ours) = (code_identity.identity(*registry.select(model)) for model in (MODEL, f"{odd}:TinyNet"))
    record.write_text(record.read_text("utf-8").replace(theirs, ours), "utf-8")

    code, _, err = call(*arguments(study, picture, "--models", f"{odd}:TinyNet"))
    assert code == 2
    assert "tinynet: cannot take 40x50 pixels (ValueError: sides of 32 only)" in err
    assert "--window X,Y,32" in err

    assert call(*arguments(study, picture, "--models", f"{odd}:TinyNet", "--window", "0,0,32", "--out", "out"))[0] == 0
