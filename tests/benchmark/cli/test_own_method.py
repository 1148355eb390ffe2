"""A user's own network as the method under test: its name in reports, and its study's verbs without its path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmark.config import code_identity, registry
from benchmark.records.own_networks import read_networks, select_networks
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import TINY, Call, Measured, tiny_run
from tests.benchmark.report import fake

ATTRIBUTES = '''
    display_name = "Tiny & Co"
    family = "lightweight"
    citation = """@article{me2026tiny,
  author = {Me, Myself and Other, Some},
  title = {Tiny networks},
  journal = {Journal of Examples},
  year = {2026},
}"""
'''
DOCSTRING = '"""One normalised convolution and a head: enough to learn that circuits are bright."""\n'


def own_network(attributes: str = ATTRIBUTES) -> Path:
    """Write the tiny network with class attributes into a folder of the user's."""
    file = Path("nets/mine.py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(TINY.read_text("utf-8").replace(DOCSTRING, DOCSTRING + attributes))
    return file


@pytest.mark.usefixtures("in_process")
def test_own_network_leads_the_report_and_its_study_finds_it_by_name(
    call: Call, measured: Measured, blank_files: None
) -> None:
    file = own_network()
    measured("quick", code=code_identity.code_digest(*registry.select(f"{file}:TinyNet")))
    train = [f"{file}:TinyNet" if word == f"{TINY}:TinyNet" else word for word in tiny_run()]

    code, out, err = call(*train, "--reference", f"{file}:TinyNet")

    assert code == 0, out + err
    misspelt = [word.replace(":TinyNet", ":TinyNett") for word in train]
    _, _, err = call(*misspelt, "--reference", "tinynet")
    assert "'TinyNett' in nets/mine.py is not there; did you mean 'TinyNet'" in err
    assert "\nTiny & Co " in out
    study = Path("results/quick")
    assert json.loads((study / "networks.json").read_text())["tinynet"]["target"] == "../../nets/mine.py:TinyNet"
    table = (study / "report/tables/accuracy.md").read_text("utf-8")
    assert table.index("*Method under test*") < table.index("| Tiny &amp; Co |") < table.index("*No training*")
    assert "Tiny &amp; Co is the only model here" in (study / "report/tables/methods.md").read_text("utf-8")
    assert "@article{me2026tiny," in (study / "report/tables/references.bib").read_text("utf-8")
    assert "Tiny &amp; Co" in (study / "report/index.html").read_text("utf-8")
    assert call("report", "quick", "--check")[0] == 0
    assert call("report", "quick", "--cite")[0] == 0
    assert "Tiny \\& Co~\\cite{me2026tiny}" in (study / "report/tables/custom.tex").read_text("utf-8")
    latex = (study / "report/tables.tex").read_text("utf-8")
    assert "Myself Me, Some Other. Tiny networks. \\emph{Journal of Examples}, 2026." in latex
    image = fake_image()
    drawn = ("stages", "--study", "results/quick/", "--models", "tinynet", "--image", image)
    code, out, err = call(*drawn)
    assert code == 0, err
    assert "Tiny & Co" in out
    file.write_text(file.read_text("utf-8") + "\n# changed\n")
    code, _, err = call(*drawn)
    assert code == 2
    assert "trained as tinynet-v1-" in err
    assert " now, changed in mine.py: it may compute something else" in err
    file.unlink()
    code, _, err = call(*drawn)
    assert code == 2
    assert f"--models tinynet: no file {file}, where the study's network was; expected the network that was" in err


def fake_image() -> Path:
    from tests.benchmark.data.folder_makers import picture, save

    return save(Path("image.png"), picture(0, 32))


def test_another_reference_is_kept_and_takes_the_first_place(call: Call) -> None:
    study = fake.write_study(Path("results/quick"), ["eal_icnet", "unet", "mynet"], ["omc-syn"], repeats=3)
    shutil.rmtree(study / "efficiency")  # whose plots would take most of the time
    assert call("report", "quick", "--reference", "mynett")[0] == 2
    assert not (study / "report").exists()
    code, _, err = call("report", "quick", "--reference", "mynet")
    assert code == 0, err
    methods = (study / "report/tables/methods.csv").read_text("utf-8")
    assert ",mynet," in methods
    table = (study / "report/tables/accuracy.md").read_text("utf-8")
    assert table.index("*Method under test*") < table.index("| mynet |") < table.index("*Lightweight networks*")
    assert table.index("*Lightweight networks*") < table.index("| EAL-ICNet |") < table.index("*IC networks*")
    assert call("report", "quick", "--check")[0] == 0
    assert call("report", "quick")[0] == 0
    assert (study / "report/tables/methods.csv").read_text("utf-8") == methods
    code, _, err = call("report", "quick", "--check", "--reference", "unet")
    assert code == 2
    assert "--check with --reference" in err
    assert call("report", "quick", "--reference", "eal_icnet")[0] == 0
    table = (study / "report/tables/accuracy.md").read_text("utf-8")
    assert table.index("*Method under test*") < table.index("| EAL-ICNet |") < table.index("*User's networks*")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('    family = "best"\n', "family = 'best'; expected lightweight, ic, user"),
        ('    citation = "Me, 2026"\n', "citation = 'Me, 2026'; expected a BibTeX entry"),
        ("    display_name = 3\n", "mine.py:16: display_name of TinyNet: expected a plain string"),
    ],
)
def test_attributes_that_cannot_be_are_refused(call: Call, attributes: str, message: str) -> None:
    file = own_network(attributes)
    code, _, err = call("profile", "--models", f"{file}:TinyNet", "--device", "cpu")
    assert code == 2
    assert message in err


def test_study_without_a_known_file_says_how_to_name_its_network(tmp_path: Path) -> None:
    study = fake.write_study(tmp_path / "quick", ["mynet"], ["omc-syn"])
    with pytest.raises(UserError, match=r"--models mynet: .* does not say where this network's code lies"):
        select_networks(study, "mynet")
    inside = study / "mynet.py"
    shutil.copy(TINY, inside)
    (study / "networks.json").write_text('{"mynet": {"target": "mynet.py:TinyNet"}}')
    assert read_networks(study)["mynet"].display == "mynet"
    with pytest.raises(UserError, match="is part of the study, of which nothing is run as code"):
        select_networks(study, "mynet")
    (study / "networks.json").write_text("[]")
    with pytest.raises(UserError, match=r"networks\.json: cannot be read"):
        select_networks(study, "unet")
