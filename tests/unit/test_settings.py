"""A thing with its settings on one line: how it is read, and what is refused by name."""

from dataclasses import dataclass, field

import pytest

from undertow.domains.base import DOMAINS, parse_domain
from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, UnknownNameError
from undertow.settings import split_settings, with_settings


@dataclass(frozen=True)
class Thing:
    share: float
    writers: tuple[str, ...] = ()
    name: str = field(default="thing", init=False)


def test_values_are_read_as_yaml() -> None:
    found = split_settings("thing:share=0.5,writers=[ref:a, ref:b],quiet=true,other=null,word=hf:a/b")
    values = {"share": 0.5, "writers": ["ref:a", "ref:b"], "quiet": True, "other": None, "word": "hf:a/b"}
    assert found == ("thing", values)
    assert split_settings("thing") == split_settings("thing:") == ("thing", {})


@pytest.mark.parametrize(
    "text", ["thing:share=[", "thing:share={", "thing:share=1,=2]", "thing:share", "thing:half, share=1"]
)
def test_settings_that_cannot_be_read_are_refused(text) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        split_settings(text)


def test_a_thing_is_made_with_values_of_its_own_types() -> None:
    made = with_settings(Thing, "thing", "it", {"share": 1, "writers": ["a"]})
    assert made == Thing(share=1.0, writers=("a",)) and isinstance(made.share, float)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "lacks a setting"),
        ({"share": "much"}, "it:share is not valid"),
        ({"share": 1, "shar": 2}, "share"),
        ({"share": 1, "name": "other"}, "no setting of it"),
    ],
)
def test_a_wrong_setting_is_named(settings, said) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        with_settings(Thing, "thing", "it", settings)
    assert said in str(error.value)


def test_a_domain_takes_its_settings_on_one_line() -> None:
    assert parse_domain("numbers") == Numbers()
    assert parse_domain("numbers:count=6,short=true") == Numbers(count=6, short=True)
    assert parse_domain("numbers:banned=[4, 13]") == Numbers(banned=(4, 13))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("number", "numbers"),
        ("numbers:counts=6", "count"),
        ("numbers:count=six", "numbers:count is not valid"),
        ("numbers:count=11", "1 to 10"),
        ("numbers:short=true", "how many numbers"),
        ("numbers:name=code", "no setting of numbers"),
    ],
)
def test_a_domain_that_cannot_be_made_is_refused(text, said) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        parse_domain(text)
    assert said in str(error.value)


def test_a_domain_that_is_no_dataclass_takes_settings_too(monkeypatch) -> None:
    class Plain:
        def __init__(self, size: int = 1) -> None:
            self.size = size

    monkeypatch.setitem(DOMAINS.built_in, "plain", Plain)
    assert parse_domain("plain:size=3").size == 3
    with pytest.raises(ConfigError, match="no such option"):
        parse_domain("plain:length=3")
