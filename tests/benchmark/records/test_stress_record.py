from __future__ import annotations

import pytest
from pydantic import ValidationError

from benchmark.records.stress_record import StressRecord


@pytest.mark.parametrize(
    ("effect", "strength", "stem"),
    [(None, None, "omc-syn.drawn"), ("clouds", 0.5, "omc-syn.clouds-0.5"), ("clouds", None, None), (None, 0.5, None)],
)
def test_an_effect_has_a_strength_and_both_name_the_files(
    effect: str | None, strength: float | None, stem: str | None
) -> None:
    fields: dict[str, object] = dict.fromkeys(("key", "weights", "model", "test", "images"), "omc-syn")
    fields |= dict.fromkeys(("behaviour", "repeat", "standin_version", "convention"), 1)
    fields |= {"train": ["omc-syn"], "effect": effect, "strength": strength}
    if stem is None:
        with pytest.raises(ValidationError, match="an effect has a strength"):
            StressRecord.model_validate(fields)
    else:
        assert StressRecord.model_validate(fields).stem == stem
