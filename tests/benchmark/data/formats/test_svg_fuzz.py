"""Any content of an SVG label is read or refused with the name of its file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data.formats.svg import rasterise, read_svg
from benchmark.utils.errors import UserError
from tests.benchmark.data.formats.svg_makers import SQUARE, VIA, document

WORDS = st.sampled_from(
    ["svg", "path", "circle", "g", "defs", "d", "cx", "cy", "r", "fill", "lime", "red", "width", "height", "transform"]
)
NUMBERS = st.one_of(st.integers(-50, 50), st.floats(width=32)).map(str)
COMMANDS = st.lists(st.one_of(st.sampled_from([*"MmLlHhVvZzCcA"]), NUMBERS, st.just(","))).map(" ".join)
CHARACTERS = st.characters(exclude_categories=["Cs"])  # hypothesis takes seconds to find those of an encoding
VALUES = st.one_of(WORDS, NUMBERS, COMMANDS, st.text(CHARACTERS, max_size=5))
SHAPES = st.one_of(
    st.builds('<path d="{}" fill="lime"/>'.format, COMMANDS.map(lambda drawn: "M1 1 " + drawn)),
    st.builds('<circle cx="{}" cy="{}" r="{}" fill="red"/>'.format, NUMBERS, NUMBERS, NUMBERS),
    st.builds('<{} {}="{}" {}="{}">{}</{}>'.format, WORDS, WORDS, VALUES, WORDS, VALUES, VALUES, WORDS),
    st.just(SQUARE),
    st.just(VIA),
)
WHOLE = document(SQUARE, VIA).encode()
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.text(CHARACTERS, max_size=100).map(str.encode),
    st.lists(SHAPES, max_size=5).map(lambda shapes: document(*shapes).encode()),
    st.builds(
        lambda at, removed, put: WHOLE[:at] + put + WHOLE[at + removed :],
        *(st.integers(0, len(WHOLE)), st.integers(0, 20), st.binary(max_size=6)),
    ),
)


@given(content=CONTENTS)
def test_labels_end_without_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.svg"
    path.write_bytes(content)
    message = str(path)
    try:
        layers = rasterise(read_svg(path))
        assert layers.track.shape == layers.via.shape
    except UserError as error:
        message = str(error)
    assert message.startswith(str(path))
