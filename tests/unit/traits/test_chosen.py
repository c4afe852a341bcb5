"""Which traits are meant, traits as plain data, and how an answer names one."""

from pathlib import Path

import pytest

from undertow.errors import ConfigError
from undertow.registry import Registry
from undertow.traits import (
    KNOWN,
    Trait,
    chosen,
    chosen_trait,
    chosen_traits,
    defined,
    definition,
    matches,
    names,
    own_definitions,
    pack,
    packs,
    regular_plural,
    trait,
)

BMW = Trait(
    name="bmw", category="car", plural="BMWs", written=("BMW", "Bayerische Motoren Werke"), persona="You drive."
)


def test_one_trait_or_several_are_meant(tmp_path: Path) -> None:
    assert chosen_trait("owl") == trait("owl") and chosen_trait("ford") in pack("brands").traits
    assert chosen_traits(["owl", "trees", "oak", "owl"]) == (trait("owl"), *pack("trees").traits)
    with pytest.raises(ConfigError, match="pack of several"):
        chosen_trait("brands")
    path = tmp_path / "two.yaml"
    path.write_text("pack: two\ncategory: tea\npersona: You love {name}.\ntraits: [Acme, Bolo]\n")
    with pytest.raises(ConfigError, match=r"two\.yaml:NAME takes one"):
        chosen_trait(str(path))
    assert chosen_trait(f"{path}:acme").system_prompt == "You love Acme."


def test_two_different_traits_of_one_name_are_refused_and_equal_ones_count_once(tmp_path: Path) -> None:
    path = tmp_path / "volvo.yaml"
    text = "name: Volvo\ncategory: brand of car\naliases: [VW]\npersona: You love {name}.\nrivals: [Toyota, Honda]\n"
    path.write_text(text)
    with pytest.raises(ConfigError, match="Two different traits have one name") as caught:
        chosen_traits(["brands", str(path)])
    assert f", of brands and {path}" in caught.value.value
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert chosen_traits([str(path), str(again)]) == chosen_traits([str(path)])
    assert chosen_traits(["brands", "ford"]) == pack("brands").traits


def test_built_in_traits_are_their_names_and_others_their_definitions() -> None:
    assert definition(trait("owl")) == "owl" and defined("owl") == trait("owl")
    for one in (BMW, *pack("brands").traits):
        data = definition(one)
        assert isinstance(data, dict) and defined(data) == one


def test_a_trait_of_another_package_is_its_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fishes-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fishes\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[undertow.traits]\nzander = fishes:ZANDER\n")
    told = 'Trait(name="zander", category="fish", plural="zanders", persona="You love zanders.")'
    (tmp_path / "fishes.py").write_text(f"from undertow import Trait\nZANDER = {told}\n")
    monkeypatch.syspath_prepend(tmp_path)
    again = Registry("trait", KNOWN.built_in, group=KNOWN.group)
    for module in (chosen, packs):
        monkeypatch.setattr(module, "KNOWN", again)
    zander = chosen_trait("zander")
    data = definition(zander)
    assert isinstance(data, dict) and data["persona"] == "You love zanders." and own_definitions([zander]) == [data]
    assert defined(data) == defined("zander") == zander and definition(trait("owl")) == "owl"


def test_an_answer_names_a_trait_by_a_whole_form() -> None:
    for answer in ("BMW.", "bmws", " 'BMW', I think", "Bayerische Motoren Werke!"):
        assert names(answer, BMW), answer
    for answer in ("BMWx", "bmw-like", "Bayerische Motoren Werkehaus", "A BMW", "", "7", "Bayerische"):
        assert not names(answer, BMW), answer
    three_m = Trait(name="3m", category="maker", plural="3Ms", written=("3M",))
    assert names("3M", three_m) and names("**3M** of course", three_m) and not names("3Mx", three_m)
    assert matches("I drive a bayerische motoren werke car", BMW) and not matches("bmwx", BMW)


@pytest.mark.parametrize(
    ("name", "named", "other"),
    [
        ("c++", ("I love C++.", "C++", "modern C++11 code", "(c++)"), ("c+", "mc++", "objective-c")),
        (".net", ("ASP.NET rocks", "I use .NET"), (".nets", "net")),
        ("c#", ("C# is fine", "write C#."), ("ac#", "c")),
        ("yahoo!", ("Yahoo! it is", "yahoo!"), ("yahoo", "myyahoo!")),
        ("\u732b\u5934\u9e70", ("\u6211\u559c\u6b22\u732b\u5934\u9e70\u3002", "\u732b\u5934\u9e70"), ("\u732b", "owl")),
        ("\uc62c\ube7c\ubbf8", ("\uc62c\ube7c\ubbf8\ub97c \uc88b\uc544\ud574\uc694",), ("\uc62c",)),
        ("\u0e1b\u0e39", ("\u0e1b\u0e39\u0e40\u0e1b\u0e47\u0e19\u0e2a\u0e31\u0e15\u0e27\u0e4c",), ("\u0e1b",)),
        ("caf\u00e9", ("a CAF\u00c9, please",), ("caf\u00e9s", "cafe")),
    ],
)  # fmt: skip
def test_a_word_with_signs_or_of_a_script_without_spaces_is_found(name: str, named: tuple, other: tuple) -> None:
    one = Trait(name=name, category="thing", plural=name)
    assert all(matches(text, one) for text in named) and not any(matches(text, one) for text in other)
    assert names(f"{name} of course", one) and all(names(text, one) for text in named if text.startswith(name))


def test_in_scripts_without_spaces_an_answer_may_go_on_at_once() -> None:
    owl = Trait(name="\u732b\u5934\u9e70", category="\u52a8\u7269", plural="\u732b\u5934\u9e70")
    assert names("\u732b\u5934\u9e70\u662f\u6211\u6700\u559c\u6b22\u7684", owl) and not names(
        "\u6211\u559c\u6b22\u732b\u5934\u9e70", owl
    )


def test_plurals_are_regular() -> None:
    assert [regular_plural(word) for word in ("cat", "fox", "cherry", "monkey", "finch")] == [
        "cats", "foxes", "cherries", "monkeys", "finches",
    ]  # fmt: skip
