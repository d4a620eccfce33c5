"""One tree of errors and one form of sentence."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines import errors
from fivenines.errors import FiveninesError, NotEnoughDataError, ScoringError, UserError, sentence

ALL = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
]


def test_the_tree_is_the_one_that_the_module_draws() -> None:
    drawn = errors.__doc__ or ""
    assert all(error.__name__ in drawn for error in ALL)
    assert {error.__name__ for error in ALL} | {"sentence"} == set(errors.__all__)


@pytest.mark.parametrize("error", ALL)
def test_every_error_has_one_root(error: type[Exception]) -> None:
    assert issubclass(error, FiveninesError)
    assert error.__doc__


def test_only_what_a_user_can_mend_is_a_user_error() -> None:
    assert {error for error in ALL if not issubclass(error, UserError)} == {FiveninesError, ScoringError}


def test_a_sentence_says_what_must_got_and_then() -> None:
    assert sentence("budget", "must be at least 1", 0) == "budget must be at least 1, got 0."
    assert (
        sentence("threshold", "must lie in [0, 1]", 1.5, "Give a probability.")
        == "threshold must lie in [0, 1], got 1.5. Give a probability."
    )
    assert sentence("policy", "must be known", "worst") == "policy must be known, got worst."


@given(st.text() | st.lists(st.integers()), st.text(max_size=20))
def test_a_sentence_stays_short_whatever_it_got(got: object, then: str) -> None:
    assert len(sentence("what", "must hold", got, then)) <= 250
    assert sentence("what", "must hold", got).startswith("what must hold, got ")


def test_a_sentence_is_one_line_whatever_it_got() -> None:
    assert (
        sentence("file", "must be read", "first\n  second\n\n") == "file must be read, got first;   second."
    )


def test_not_enough_data_says_how_much_more() -> None:
    assert NotEnoughDataError("labels are too few").more_needed is None
    error = NotEnoughDataError("labels are too few", more_needed=12)
    assert error.more_needed == 12
    assert str(error) == "labels are too few"
    with pytest.raises(UserError):
        raise error
