"""Text from files on its way to a terminal."""

import pytest

from striate.core.text import printable, short


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain caf\u00e9 \u732b", "plain caf\u00e9 \u732b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("abc\u202egnp", r"abc\u202egnp"),
        ("\x9b2J", r"\x9b2J"),
        ("two\nlines", r"two\nlines"),
        ("\udcff", r"\xff"),
    ],
)
def test_what_is_not_printable_becomes_its_escape(text, expected):
    assert printable(text) == expected
    assert printable(text).isprintable()


def test_long_text_is_cut():
    assert short("x" * 101) == "x" * 100 + "..."
    assert short("x" * 100) == "x" * 100
