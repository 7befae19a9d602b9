"""What a log shows of a telephone number: its ends, and never enough to ring it."""

import pytest

from whisperagent.privacy import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+33 6 12 34 56 78", "+33•••••678"),
        ("06.12.34.56.78", "061•••••678"),
        ("(06) 12-34-56-78", "(061•••••678"),
        ("call from 0612345678, twice", "call from 061•••••678, twice"),
        ("12345678", "12•••••78"),
        ("123456", "1•••••6"),
        ("extension 201", "extension 201"),
        ("12345", "12345"),
        ("Ada", "Ada"),
    ],
)
def test_a_number_is_cut_to_its_ends(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("digits", range(6, 16))
def test_at_least_four_digits_are_hidden(digits: int) -> None:
    number = "123456789012345"[:digits]
    assert sum(character.isdigit() for character in masked(number)) <= digits - 4
