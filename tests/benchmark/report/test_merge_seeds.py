"""Studies of different base seeds: their repeats are merged, and other images are never taken for the same."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.data.datasets import standin
from benchmark.data.specs import KNOWN
from benchmark.metrics import significance
from benchmark.records.store import Store
from benchmark.report.merge import for_figures, merge
from benchmark.report.plots import comparison_plot
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table, contests
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake
from tests.benchmark.report.test_merge import LOST, MODELS, csv_rows, parts, settled, written


def of_seed(folder: Path, seed: int, models: list[str], repeats: int = 2) -> Path:
    """A study of one stand-in whose images, counts and names follow from a base seed."""
    fake.write_protocol(folder, f"seed={seed}")
    protocol = Store(folder).read_protocol()
    assert protocol is not None
    for model in models:
        for repeat in range(repeats):
            rng = fake.random_of(model, seed, repeat)
            quality = fake.random_of(model).uniform(0.86, 0.96) + 0.01 * seed + rng.normal(0, 0.004)
            fake.write_run(folder, model, ["omc-syn"], repeat, fake.counts(quality, rng))
    fake.write_counts(folder / "references/omc-syn.otsu.csv", fake.counts(0.6 + 0.1 * seed, fake.random_of(seed)))
    settled(folder)
    data = standin(KNOWN["omc"], "track", protocol).fingerprint
    fake.change(folder, lambda record: parts(record, data=data))
    return folder


def test_another_seed_gives_further_repeats_that_pair_within_the_seed(tmp_path: Path) -> None:
    first, second = of_seed(tmp_path / "one", 3, MODELS[:2]), of_seed(tmp_path / "two", 8, MODELS[:2], repeats=3)
    merge([first, second])
    fake.write_run(second, "unet", ["omc-syn"], 1, None, LOST)
    settled(second)
    protocol = Store(second).read_protocol()
    assert protocol is not None
    data = standin(KNOWN["omc"], "track", protocol).fingerprint
    fake.change(second, lambda record: parts(record, data=data))

    texts = written(tmp_path / "merged", second, first)

    values: dict[str, dict[tuple[int, int], float]] = {}
    otsu = []
    for folder, seed in ((first, 3), (second, 8)):
        single = read_study(folder)
        otsu.append(single.references["omc-syn"]["otsu"][0].reduced["image"]["miou"])
        for run in single.runs:
            if run.scores:
                miou = run.scores["omc-syn"].reduced["image"]["miou"]
                values.setdefault(run.record.model, {})[seed, run.record.repeat] = miou
    rows = {row["model"]: row for row in csv_rows(texts["accuracy.csv"]) if row["metric"] == "miou"}
    assert float(rows["unet"]["mean"]) == pytest.approx(statistics.fmean(values["unet"].values()), rel=1e-12)
    assert (rows["eal_icnet"]["n"], rows["unet"]["n"]) == ("5", "4")
    assert rows["unet"]["remark"].startswith("repeat 3 failed")
    assert float(rows["otsu"]["mean"]) == pytest.approx(statistics.fmean(otsu), rel=1e-12)

    pairs = sorted(values["unet"])
    expected = stats.ttest_rel([values["unet"][pair] for pair in pairs], [values["eal_icnet"][pair] for pair in pairs])
    (tested,) = (row for row in csv_rows(texts["methods.csv"]) if (row["model"], row["metric"]) == ("unet", "miou"))
    assert tested["n"] == "4"
    assert float(tested["p"]) == pytest.approx(expected.pvalue, rel=1e-6)
    for name in ("accuracy.md", "methods.md"):
        assert "Merged from the studies one (seed 3), two (seed 8)." in texts[name]
        assert "Repeats 0 to 1 are of seed 3, 2 to 4 are of seed 8, where they count from 0 again." in texts[name]
        assert "about these 2 divisions" in texts[name]


def test_stand_in_of_another_seed_has_other_images_though_they_are_called_alike(tmp_path: Path) -> None:
    merged = merge([of_seed(tmp_path / "one", 0, MODELS[:2]), of_seed(tmp_path / "two", 1, MODELS[:2])])
    (block,) = accuracy_table.scores(merged, accuracy_table.ACCURACY).blocks
    result = contests.contest(merged, block, "miou", "image")
    assert not result.same_images(["unet"])
    assert {group for scores in result.scores["unet"].values() for group in scores.groups} == {
        f"seed {seed}: g{number}" for seed in (0, 1) for number in range(4)
    }


def test_real_images_are_the_same_for_every_seed_and_must_be(tmp_path: Path) -> None:
    folders = [of_seed(tmp_path / name, seed, MODELS[:2]) for name, seed in (("one", 0), ("two", 1))]
    for folder in folders:
        fake.change(folder, lambda record: parts(record, data="f"))
    (block,) = accuracy_table.scores(merge(folders), accuracy_table.ACCURACY).blocks
    assert contests.contest(merge(folders), block, "miou", "image").same_images(["unet", "eal_icnet"])
    fake.change(folders[1], lambda record: parts(record, data="a"))
    with pytest.raises(UserError, match=r"content of omc-syn: f \(one\) \| a \(two\)"):
        merge(folders)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("miss", r"on omc-syn, eal_icnet without repeat 1 of seed 1\. Run what is missing"),
        ("fail", r"on omc-syn, eal_icnet without a finished run of seed 1\."),
    ],
)
def test_networks_that_do_not_share_all_seeds_have_no_means_to_compare(
    tmp_path: Path, spoil: str, message: str
) -> None:
    folders = [of_seed(tmp_path / name, seed, MODELS[:2]) for name, seed in (("one", 0), ("two", 1))]
    if spoil == "miss":
        shutil.rmtree(folders[1] / "runs/omc-syn/eal_icnet/1")
    else:
        fake.change(folders[1], lambda record: {"status": "failed", "failure": LOST}, "omc-syn/eal_icnet/*")
    with pytest.raises(UserError, match=rf"one and two: have different seeds.*{message}"):
        merge(folders)
    fake.change(folders[0], lambda record: {"status": "failed", "failure": LOST}, "omc-syn/eal_icnet/*")
    if spoil == "fail":
        merge(folders)  # a network that finished nowhere has no mean


def test_plots_say_what_they_were_merged_from(tmp_path: Path) -> None:
    folders = [of_seed(tmp_path / name, seed, MODELS[:2]) for name, seed in (("one", 0), ("two", 1))]
    ((_, figure),) = comparison_plot.draw(for_figures(merge(folders)))
    text = " ".join(result.get_text().replace("\n", " ") for result in figure.texts)
    assert "Means over n = 4 repeats. No intervals, since repeats saw different images." in text
    assert "Protocol: quick. Merged from the studies one (seed 0), two (seed 1)." in text


def test_seeds_of_two_versions_of_a_stand_in_are_refused(tmp_path: Path) -> None:
    folders = [of_seed(tmp_path / name, seed, MODELS[:1]) for name, seed in (("one", 0), ("two", 1))]
    protocol = Store(folders[1]).read_protocol()
    assert protocol is not None
    earlier = standin(KNOWN["omc"], "track", protocol, 1).fingerprint
    fake.change(folders[1], lambda record: parts(record, data=earlier))
    with pytest.raises(
        UserError, match=r"content of omc-syn: stand-in, version 2 \(one\) \| stand-in, version 1 \(two\)"
    ):
        merge(folders)


def test_tests_over_repeats_of_two_seeds_err_towards_no_difference() -> None:
    """What the tables say: for divisions that cancel out, equal methods are told apart in at most one of twenty."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0, 1, (1000, 2, 3)) + np.array([[-1.0], [1.0]])  # two divisions, each with three repeats
    p = significance.paired_t(differences.reshape(-1, 6), np.zeros(6)).p
    assert 0 < np.mean(p < 0.05) < 0.05
