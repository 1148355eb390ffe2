"""The commands on a page: they repeat the study, and tell no path of a user's network."""

from __future__ import annotations

import shlex
from pathlib import Path

from benchmark.config.protocol import load_protocol
from benchmark.records.store import Store
from benchmark.report.build import build, check
from benchmark.report.page import origin
from benchmark.report.read import read_study
from tests.benchmark.conftest import Call
from tests.benchmark.report import fake
from tests.benchmark.report.page.test_html import page_of, page_with


def commands(folder: Path) -> list[list[str]]:
    return [shlex.split(line)[3:] for line in origin.commands(read_study(folder), folder.name)]


def test_commands_do_the_same_study_again(tmp_path: Path, call: Call) -> None:
    folder = fake.write_study(tmp_path / "results" / "mine", ["unet", "eal_icnet"], ["omc-syn", "miic-syn"], repeats=3)
    Store(folder).write_protocol(load_protocol("quick"))
    again, diff, reproduce = commands(folder)
    expected = "run --models eal_icnet,unet --datasets omc-syn,miic-syn --protocol quick --study mine-again"
    assert again == expected.split()
    assert diff == ["diff", "mine", "mine-again"]
    assert reproduce == ["run", "--reproduce", "results/mine/runs/omc-syn/eal_icnet/0/record.json"]
    code, out, err = call(*again, "--device", "cpu", "--dry-run")
    assert code == 0, err
    assert "12 runs" in out


def test_commands_follow_settings_and_tests(tmp_path: Path) -> None:
    folder = tmp_path / "odd name"
    fake.write_protocol(folder, "training.lr=0.5")
    rows = fake.counts(0.9, fake.random_of(1))
    for train, test in ((["omc"], ["omc", "miic"]), (["miic"], ["omc", "miic"]), (["omc", "miic"], ["hy5syn"])):
        fake.write_run(folder, "mynet", train, 0, rows, test=test)
    within, across, *_ = commands(folder)
    shared = ["--protocol", "results/odd name/protocol.toml", "--study", "odd name-again"]
    models = ["run", "--models", "path/to/file.py:mynet"]
    assert within == [*models, "--datasets", "omc,miic", "--test", "omc,miic", *shared]
    assert across == [*models, "--train", "omc,miic", "--test", "hy5syn", *shared]
    assert "training.lr: 0.002 -&gt; 0.5" in page_with(folder)


def test_commands_name_the_class_of_an_own_network_and_the_method_under_test(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "mine", ["eal_icnet", "mynet"], ["omc-syn"])
    (folder / "networks.json").write_text('{"mynet": {"target": "../../secret/nets.py:MyNet"}}', "utf-8")
    build(folder, reference="mynet", plots=())
    page = page_of(folder)
    command = next(line for line in page.splitlines() if "mine-again --" in line)
    assert "--models path/to/file.py:MyNet,eal_icnet " in command
    assert command.endswith(" --study mine-again --reference mynet")
    assert "secret" not in page
    assert check(folder, plots=()) == []
