from __future__ import annotations

import subprocess
import sys

import torch

from benchmark.utils.seeds import derive


def test_same_labels_give_the_same_seed_in_every_process() -> None:
    code = "from benchmark.utils.seeds import derive; print(derive(0, 'order', 'omc-syn', 2))"
    raised = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(raised.stdout) == derive(0, "order", "omc-syn", 2)


def test_every_label_and_its_place_count() -> None:
    drawn = [derive(0), derive(1), derive(0, "a"), derive(0, "a", "b"), derive(0, "b", "a"), derive(0, "ab")]
    drawn += [derive(0, "init", "omc", repeat) for repeat in range(50)]
    drawn += [derive(1, 2), derive(12)]
    assert len(set(drawn)) == len(drawn)


def test_seeds_fit_torch_and_numpy() -> None:
    for base in range(200):
        assert 0 <= derive(base, "x") < 2**63
    torch.Generator().manual_seed(max(derive(base) for base in range(200)))
