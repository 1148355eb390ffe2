"""What is quoted of a program's output: its words, without the folders of the machine it ran on."""

from __future__ import annotations

import pytest

from benchmark.records.run_record import Failure
from benchmark.utils.logs import without_folders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No such file: '/home/Jane Doe/a b/x.png'", "No such file: 'x.png'"),
        ("cannot write /home/jane: full", "cannot write ~: full"),
        ('in "/Users/Jane Doe"', 'in "~"'),
        ("file:///home/jane/x.png", "x.png"),
        ("file:///home/jane", "~"),
        (r"C:\Users\jane\x.png is broken", "x.png is broken"),
        (r"'D:\Jane Doe\x.png'", "'x.png'"),
        ('File "/opt/lib/y.py", line 3', 'File "y.py", line 3'),
        ("/home/jane/data/x.png bad", "x.png bad"),
        # What is no absolute path stays.
        (
            "data/omc/image/1.png: 3/4 of https://example.org/a/b",
            "data/omc/image/1.png: 3/4 of https://example.org/a/b",
        ),
        ("'a'/'b/c/' and a/b", "'a'/'b/c/' and a/b"),
    ],
)
def test_absolute_paths_become_names_of_files(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_no_record_holds_an_absolute_path_of_a_message_or_log() -> None:
    failure = Failure(kind="error", message="OSError: '/home/jane/x.png'", log="/mnt/jane/y.py:3: bad")
    assert (failure.message, failure.log) == ("OSError: 'x.png'", "y.py:3: bad")
