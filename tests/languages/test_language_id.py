"""What the identification of a text's language says, and where it says nothing."""

from __future__ import annotations

import pytest

from relevance_core.errors import SettingsError
from relevance_core.languages import LANGUAGES
from relevance_core.languages.identification import identify


def test_the_likeliest_language_comes_with_its_probability() -> None:
    """Each text in its place, twice the same for the same text: Spanish, Japanese by its letters alone, Spanish again."""
    spanish, japanese, again = identify(["zapatos rojos para mujer", "スニーカー", "zapatos rojos para mujer"], ["en", "es", "ja"])
    assert spanish == again
    assert spanish[0] == "es"
    assert 0.9 < spanish[1] <= 1
    assert japanese == ("ja", 1.0)


def test_fewer_languages_make_it_surer() -> None:
    """`camiseta` is Spanish and Portuguese: it is surely Spanish only where Portuguese is not possible."""
    [(language, sure)] = identify(["camiseta"], ["en", "es"])
    [(_, unsure)] = identify(["camiseta"], ["en", "es", "pt"])
    assert language == "es"
    assert unsure < 0.7 < sure


def test_a_text_in_no_possible_script_has_no_language() -> None:
    """Russian among English and Spanish, digits, and nothing: no language, probability 0."""
    assert identify(["силиконовый чехол", "12", ""], ["en", "es"]) == [("", 0.0)] * 3
    assert identify([], ["en", "es"]) == []


def test_every_known_language_can_be_told() -> None:
    """Without a choice of languages all that the loop knows are possible, and Thai is found among them."""
    assert identify(["รองเท้า"])[0] == ("th", 1.0)
    assert identify(["รองเท้า"], tuple(LANGUAGES))[0] == ("th", 1.0)


@pytest.mark.parametrize("among", [["en"], ["en", "xx"]])
def test_what_is_no_choice_of_languages_is_an_error(among: list[str]) -> None:
    """One language leaves nothing to tell apart, and a code that nobody knows is named."""
    with pytest.raises(SettingsError, match=rf"among {', '.join(among)}.*two or more"):
        identify(["x"], among)
