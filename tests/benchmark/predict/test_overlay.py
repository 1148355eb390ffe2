from __future__ import annotations

import numpy as np
import pytest

from benchmark.data.check.contact_sheet import OUTLINE, RIM
from benchmark.predict import overlay
from benchmark.predict.overlay import TINT, Overlay
from tests.benchmark.data.folder_makers import picture


def made(image: np.ndarray, mask: np.ndarray, rows: int = 7) -> np.ndarray:
    result = Overlay(mask.shape, image.shape[-1])
    for top in range(0, len(mask), rows):
        result.add(top, image[top : top + rows], mask[None, top : top + rows])
    return result.picture()


@pytest.mark.parametrize("channels", [1, 3])
def test_prediction_is_tinted_outlined_and_rimmed(channels: int) -> None:
    image = picture(0, 20, 30, 3)[..., :channels]
    mask = np.zeros((20, 30), np.bool_)
    mask[5:12, 8:20] = True
    result = made(image, mask).astype(float)
    pixels = np.broadcast_to(image, (20, 30, 3)).astype(float)
    np.testing.assert_array_equal(result[:4], pixels[:4])
    np.testing.assert_allclose(
        result[6:11, 9:19], pixels[6:11, 9:19] * (1 - TINT) + TINT * np.array(OUTLINE), atol=0.51
    )
    assert (result[5, 8:20] == OUTLINE).all()
    assert (result[4, 8:20] == RIM).all()


def test_large_images_are_averaged_over_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "MOST_SIDE", 40)
    image, mask = picture(1, 61, 100)[..., None], np.zeros((61, 100), np.bool_)
    result = made(image, mask)
    assert result.shape == (21, 34, 3)
    for row in (0, 7, 20):
        for column in (0, 11, 33):
            block = image[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert result[row, column, 0] == np.rint(block.mean())
    mask[:3, :3] = True
    mask[30, 30] = True  # a ninth of its square
    shown = (made(image, mask) == OUTLINE).all(axis=-1)
    assert np.argwhere(shown).tolist() == [[0, 0]]
