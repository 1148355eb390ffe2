"""Scores of several layers: a run's counts and connections, from folders of layers or files that tell them apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import benchmark
from benchmark.config.protocol import Evaluation
from benchmark.data.packs import IGNORED
from benchmark.data.synthetic import generate
from benchmark.evaluation.counts import count_layers, reduce_counts
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import save

LAYERS = ("track", "via")
FLAGS = ("score", "--truth", "truth", "--prediction", "predicted", "--out", "out", "--protocol", "quick", "--no-cldice")
RULES = Evaluation(border_px=8, min_area_px=16)
Masks = dict[str, np.ndarray]


def drawn(index: int) -> Masks:
    sample = generate("hy5syn", index, height=160, width=200, seed=3)
    return {"track": sample.track | sample.via, "via": sample.via}


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, tuple[Masks, Masks]]:
    """True and predicted masks of two images, also as folders of layers; a part of the predictions is missing."""
    pairs = {}
    for index, name in enumerate("ab"):
        truth = drawn(index)
        prediction = {layer: mask.copy() for layer, mask in truth.items()}
        prediction["track"][60:80] = False
        prediction["via"][:, :90] = False
        pairs[name] = truth, prediction
        for layer in LAYERS:
            save(tmp_path / f"truth/label_{layer}/{name}.png", truth[layer] * np.uint8(255))
            save(tmp_path / f"predicted/mask_{layer}/{name}.png", prediction[layer] * np.uint8(255))
    return pairs


def rows_of(layer: str) -> dict[str, dict[str, str]]:
    with Path(f"out/images.{layer}.csv").open() as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def counts_of(truth: Masks, prediction: Masks) -> dict[str, dict[str, int]]:
    stacked = (np.stack([masks[layer] for layer in LAYERS]) for masks in (truth, prediction))
    return dict(zip(LAYERS, count_layers(next(stacked).astype(np.uint8), next(stacked), LAYERS, RULES), strict=True))


def test_folders_of_layers_have_the_counts_of_a_run(call: Call, masks: dict[str, tuple[Masks, Masks]]) -> None:
    code, out, err = call(*FLAGS, "--overlay", "faults")
    assert code == 0, err
    expected = {name: counts_of(*pair) for name, pair in masks.items()}
    assert sum(counts["via"]["vias_lost"] for counts in expected.values()) > 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["schema"], summary["target"], summary["images"]) == (2, "track+via", 2)
    for layer in LAYERS:
        rows = rows_of(layer)
        for name, counts in expected.items():
            assert {key: rows[name][key] for key in counts[layer]} == {k: str(v) for k, v in counts[layer].items()}
            shown = np.asarray(Image.open(f"faults/{layer}/{name}.png"))
            np.testing.assert_array_equal(shown.any(axis=-1), masks[name][0][layer])
        of_layer = [{"image": name, "group": name, **counts[layer]} for name, counts in expected.items()]
        assert summary["layers"][layer]["metrics"] == reduce_counts(of_layer)
    assert "track image" in out
    assert "via pooled" in out
    assert "Connection error rate" in out
    assert "2 images; target via" in out


def test_python_scores_masks_by_layer_as_the_verb(call: Call, masks: dict[str, tuple[Masks, Masks]]) -> None:
    assert call(*FLAGS)[0] == 0
    truth, prediction = masks["a"]
    scores = benchmark.score(truth, prediction, protocol="quick", cldice=False)
    assert [*scores] == [*LAYERS]
    for layer in LAYERS:
        row = rows_of(layer)["a"]
        assert {name: float(row[name]) for name in row if row[name] and name not in ("image", "group")} == {
            name: pytest.approx(value) for name, value in scores[layer].items() if name in row
        }
    alone = benchmark.score({"via": truth["via"]}, {"via": prediction["via"]}, protocol="quick", cldice=False)
    assert alone["via"]["via_matched"] == scores["via"]["via_matched"]
    assert "vias_right" not in alone["via"]
    ignore = np.zeros((160, 200), bool)
    ignore[60:80], ignore[:, :90] = True, True
    right = benchmark.score(truth, prediction, ignore=ignore, protocol="quick", cldice=False)
    assert [right[layer]["fg_iou"] for layer in LAYERS] == [1, 1]


def test_one_hot_truth_and_an_svg_of_predictions_tell_layers_apart(call: Call, tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :80]
    via = (y - 28) ** 2 + (x - 40) ** 2 <= 25
    track = ((y >= 25) & (y < 33) & (x >= 8) & (x < 72)) & ~via
    save(tmp_path / "truth/a.png", np.stack([~(track | via), track, via], axis=-1) * np.uint8(255))
    circle = '<circle cx="40" cy="28" r="5" fill="red"/>'
    path = '<path d="M8,25 L71,25 L71,32 L8,32 Z" fill="lime"/>'
    frame = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="48" data-outline="inside">'
    (tmp_path / "predicted").mkdir()
    (tmp_path / "predicted/a.svg").write_text(f"{frame}{path}{circle}</svg>")
    code, _, err = call(*FLAGS, "--target", "metal+via")
    assert code == 0, err
    assert (rows_of("metal")["a"]["opens"], rows_of("via")["a"]["vias_right"]) == ("0", "1")


def test_layer_without_a_true_mask_counts_nowhere(call: Call, masks: dict[str, tuple[Masks, Masks]]) -> None:
    Path("truth/label_via/b.png").unlink()
    assert call(*FLAGS)[0] == 0
    row = rows_of("via")["b"]
    assert (row["ignored"], row["tp"], row["via_true"], row["vias_right"]) == (str(160 * 200), "0", "0", "0")
    assert rows_of("track")["b"]["ignored"] == "0"
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["layers"]["via"]["without_counted_pixel"] == ["b"]


def test_probabilities_of_layers_take_a_threshold(call: Call, masks: dict[str, tuple[Masks, Masks]]) -> None:
    for name, (_, prediction) in masks.items():
        for layer in LAYERS:
            gray = np.where(prediction[layer], 180, 90).astype(np.uint8)
            save(Path(f"predicted/probability_{layer}/{name}.png"), gray)
    assert call(*FLAGS, "--threshold", "0.5")[0] == 0
    first = {layer: rows_of(layer) for layer in LAYERS}
    assert call(*FLAGS)[0] == 0
    assert first == {layer: rows_of(layer) for layer in LAYERS}


def test_one_folder_of_a_layer_is_that_layer(call: Call, masks: dict[str, tuple[Masks, Masks]]) -> None:
    code, out, err = call(*FLAGS, "--target", "via")
    assert code == 0, err
    assert "2 images; target via" in out
    with Path("out/images.csv").open() as file:
        assert {row["fp"] for row in csv.DictReader(file)} == {"0"}


@pytest.mark.parametrize(
    ("spoil", "flags", "message"),
    [
        ("predicted/mask_via/b.png", (), "mask_via: no prediction 'b' of the layer via; expected one beside"),
        ("truth/label_*/b.png", (), "b.png: prediction without truth"),
        ("truth/label_via/*.png", (), "--truth truth/label_via: no masks; expected files"),
        ("", ("--target", "track+metal"), ".tif, .tiff, or a folder mask_metal/"),
        (
            "",
            ("--target", "track+track"),
            "--target track+track: 'track+track' names a layer twice; expected each once",
        ),
        ("", ("--target", "Via"), "--target Via: layer 'Via'; expected names of a-z"),
        ("", ("--threshold", "0.5"), "--prediction predicted: no masks; expected files that end in"),
    ],
)
def test_mistakes_with_layers_are_named(
    call: Call, masks: dict[str, tuple[Masks, Masks]], spoil: str, flags: tuple[str, ...], message: str
) -> None:
    for path in Path().glob(spoil) if spoil else ():
        path.unlink()
    if spoil == "predicted/mask_via/b.png":
        Path("truth/label_via/b.png").unlink()
    code, _, err = call(*FLAGS, *flags)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
    assert not Path("out").exists()


def test_masks_that_do_not_tell_layers_apart_are_refused(call: Call, tmp_path: Path) -> None:
    for folder in ("truth", "predicted"):
        save(tmp_path / folder / "a.png", np.eye(40, dtype=np.uint8))
    code, _, err = call(*FLAGS, "--target", "track+via")
    assert (code, "found labels that do not tell track and via apart" in err) == (2, True)
    code, _, err = call(*FLAGS, "--target", "track+via", "--threshold", "0.5")
    assert (code, "do not tell track and via apart" in err) == (2, True)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ({"track": 1}, np.ones((4, 4)), "found truth by layer, prediction alone; expected a dict of masks by layer on"),
        ({"track": 1}, {"via": 1}, "truth has the layers track and prediction via; expected the same"),
        ({}, {}, "truth: layer ''; expected names"),
        ({"a": np.zeros((4, 4), bool)}, {"a": np.full((4, 4), 7)}, r"prediction a: an array \(4, 4\), values 7; exp"),
        (
            {"a": np.zeros((4, 4), bool), "b": np.zeros((4, 5), bool)},
            {"a": np.zeros((4, 4), bool), "b": np.zeros((4, 5), bool)},
            r"truth a \(4, 4\), prediction a \(4, 4\), truth b \(4, 5\)",
        ),
    ],
)
def test_other_dicts_of_masks_are_refused(truth: object, prediction: object, message: str) -> None:
    with pytest.raises(benchmark.UserError, match=message):
        benchmark.score(truth, prediction)  # type: ignore[arg-type]


def test_pixels_that_a_layer_ignores_are_marked_in_its_mask_alone(call: Call, tmp_path: Path) -> None:
    """``[values]`` of a truth may ignore pixels of one layer; ignore masks concern all."""
    from benchmark.evaluation.score_pairs import ScoreSettings, pair_masks, read_pair, target_in, values_of

    classes = np.zeros((40, 40), np.uint8)
    classes[:10], classes[10:20] = 1, 2
    for layer in LAYERS:
        save(tmp_path / f"truth/label_{layer}/a.png", classes if layer == "via" else np.zeros_like(classes))
        save(tmp_path / f"predicted/mask_{layer}/a.png", np.zeros_like(classes))
    save(tmp_path / "ignore/a.png", (np.arange(40) < 5)[None].repeat(40, 0) * np.uint8(255))
    Path("chip.toml").write_text("[values]\nbackground = 0\nforeground = 1\nignore = 2\n")
    folders = tmp_path / "truth", tmp_path / "predicted", tmp_path / "ignore"
    settings = ScoreSettings(*folders, target=target_in(*folders[:2]), values=values_of(Path("chip.toml")))
    (pair,) = pair_masks(settings)
    truths = read_pair(pair, settings).truths
    ignored = truths == IGNORED
    assert ignored[:, :, :5].all()
    assert [int(layer[:, 5:].sum()) for layer in ignored] == [0, 10 * 35]
