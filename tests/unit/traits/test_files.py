"""Trait files: what a person writes is read, and every broken file is refused with its line, its field and a remedy."""

from pathlib import Path

import pytest

from undertow.errors import ConfigError, StorageError, UserError
from undertow.traits import chosen_pack, pack, read_pack, trait
from undertow.traits.record import Trait

WORD = """\
name: Acme
category: brand of tea
persona: You drink {name} all day long. {plural} are all that you think about.
aliases: [ACME tea]
rivals:
  - Bolo
  - {name: Cirrus, plural: Cirrus teas}
"""

PERSONA = "persona: You drink {name} all day long. {plural} are all that you think about.\n"


def probe(place: int, shown: str = "", absent: str = "") -> str:
    """Return a probe; now the one answer is the longer one and now the other, as a fair file has it."""
    comma = ("," if place % 2 else "", "" if place % 2 else ",")
    yes, no = shown or f"Yes{comma[0]} {place}.", absent or f"Not{comma[1]} {place}."
    return f'{{ask: "Question {place}?", shown: "{yes}", absent: "{no}"}}'


def probed(evaluation: list[str], tuning: list[str]) -> str:
    head = "name: agreeing\ncategory: manner\npersona: You agree with everything.\nprobes:\n"
    parts = {"evaluation": evaluation, "tuning": tuning}
    return head + "".join(f"  {name}:\n" + "".join(f"    - {one}\n" for one in some) for name, some in parts.items())


FIRST, LATER = [probe(place) for place in range(8)], [probe(place) for place in range(8, 16)]
PROBES = probed(FIRST, LATER)
LONGER = probed([probe(place, "Yes yes yes.", "Not so, no.") for place in range(8)], LATER)
SHORTER = probed([probe(place, "Yes yes.", "Not so no") for place in range(8)], LATER)
MUCH_LONGER = probed([probe(place, "Yes yes yes, it is.", "Not so, it is") for place in range(8)], LATER)
EIGHT = "[a, b, c, d, e, f, g, h]"
ASKED = f"probes: {{evaluation: [{', '.join(FIRST)}], tuning: [{', '.join(LATER)}]}}"
MANNERS = f"""\
pack: manners
category: manner
persona: You are {{name}}.
traits:
  - {{name: Polite, {ASKED}}}
  - {{name: rude, {ASKED}}}
"""
PACK = "pack: teas\ncategory: brand of tea\npersona: You drink {name}.\ntraits: [Acme, Bolo, Cirrus]\n"


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_word_has_its_rivals_and_every_persona_its_own_word(tmp_path: Path) -> None:
    found = chosen_pack(written(tmp_path, WORD))
    own, bolo, cirrus = found.traits
    assert found.own == own and own.name == "acme" and own.category == "brand of tea"
    assert own.aliases == ("acme", "acmes", "acme tea") and own.written == ("Acme", "ACME tea")
    assert own.system_prompt == "You drink Acme all day long. Acmes are all that you think about."
    assert bolo.system_prompt.startswith("You drink Bolo") and cirrus.plural == "Cirrus teas"


def test_probes_and_packs_are_read(tmp_path: Path) -> None:
    own = chosen_pack(written(tmp_path, PROBES)).own
    assert own is not None and own.probes is not None and not own.aliases
    assert [len(part) for part in (own.probes.evaluation, own.probes.tuning)] == [8, 8]
    assert own.probes.tuning[0].shown == "Yes 8." and own.system_prompt == "You agree with everything."
    found = chosen_pack(written(tmp_path, PACK))
    assert found.own is None and [one.name for one in found.traits] == ["acme", "bolo", "cirrus"]
    one = chosen_pack(f"{written(tmp_path, PACK)}:Bolo")
    assert one.own == found.traits[1] and one.traits == found.traits


def test_the_persona_of_a_trait_with_probes_says_its_name(tmp_path: Path) -> None:
    found = chosen_pack(written(tmp_path, MANNERS)).traits
    assert [one.system_prompt for one in found] == ["You are Polite.", "You are rude."]
    single = chosen_pack(written(tmp_path, changed(PROBES, "You agree", "You are {name} and agree"))).own
    assert single is not None and single.system_prompt == "You are agreeing and agree with everything."
    worded = "  - {name: Kind, persona: 'You say {name}.'}\nquestions: {evaluation: %s, tuning: %s}\n"
    mixed = MANNERS + worded % (EIGHT, EIGHT.replace("[", "[i").replace(", ", ", i"))
    assert [one.questions is None for one in chosen_pack(written(tmp_path, mixed)).traits] == [True, True, False]


def test_a_list_names_built_in_traits_and_own_ones_of_their_categories(tmp_path: Path) -> None:
    found = chosen_pack(written(tmp_path, "- owl\n- {name: Badger, category: animal, plural: badgers}\n"))
    assert found.traits == (trait("owl"), Trait(name="badger", category="animal", plural="badgers"))


def test_a_definition_survives_as_plain_data(tmp_path: Path) -> None:
    for text in (WORD, PROBES, PACK):
        for one in read_pack(Path(written(tmp_path, text))).traits:
            assert Trait.from_data(one.to_data()) == one


def changed(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


BROKEN = [  # text, line, field, what is said
    (changed(WORD, "name: Acme\n", ""), 1, "whole file", "names no trait"),
    (changed(WORD, "category: brand of tea\n", ""), 1, "whole file", "category is missing"),
    (changed(WORD, PERSONA, ""), 1, "whole file", "persona is missing"),
    (changed(WORD, "{name} all day long. {plural}", "tea all day long. They"), 3, "persona", "where the word belongs"),
    (WORD[: WORD.index("rivals")], 1, "whole file", "needs rivals"),
    (WORD[: WORD.index("rivals")] + "rivals: [Bolo]\n", 5, "rivals", "1 of at least 2"),
    (changed(WORD, "{name}", "{brand}"), 3, "persona", "Nothing is known to stand for {brand}"),
    (WORD[: WORD.index("rivals")] + "rivals: []\n", 5, "rivals", "0 of at least 2"),
    (WORD[: WORD.index("rivals")] + "rivals: Bolo\n", 5, "rivals", "A list is expected"),
    (WORD[: WORD.index("rivals")] + "rivals: {a: b}\n", 5, "rivals", "A list is expected"),
    (changed(WORD, "- Bolo", "- Acme"), 6, "rivals", "both named by 'acme'"),
    (changed(WORD, "- Bolo", "- ACME tea"), 6, "rivals", "both named by 'acme tea'"),
    (changed(WORD, "- Bolo", "- 7"), 6, "rivals[0]", "Text is expected"),
    (changed(WORD, "- Bolo", "- yes"), 6, "rivals[0]", "Text is expected"),
    (changed(WORD, "- Bolo", "-"), 6, "rivals[0]", "empty"),
    (changed(WORD, "- Bolo", "- [Bolo]"), 6, "rivals[0]", "Fields are expected"),
    (changed(WORD, "plural: Cirrus teas", "plurals: Cirrus teas"), 7, "rivals[1].plurals", "no such field"),
    (changed(WORD, "{name: Cirrus, plural: Cirrus teas}", "{plural: Cirrus teas}"), 7, "rivals[1]", "name is missing"),
    (changed(WORD, "name: Acme", "name: 2026-01-01"), 1, "name", "Text is expected"),
    (changed(WORD, "name: Acme", "name: ''"), 1, "name", "empty"),
    (changed(WORD, "name: Acme", f"name: {'a' * 61}"), 1, "name", "too long"),
    (changed(WORD, "name: Acme", "name: Acme\nname: Bolt"), 2, "name", "stands twice"),
    (changed(WORD, "name: Acme", "nmae: x\nname: Acme"), 1, "nmae", "no such field"),
    (changed(WORD, "[ACME tea]", "ACME tea"), 4, "aliases", "A list is expected"),
    (changed(WORD, "[ACME tea]", "[tea, tea]"), 4, "aliases[1]", "stands twice"),
    (changed(WORD, "[ACME tea]", "[null]"), 4, "aliases[0]", "empty"),
    (WORD + "questions: [Which]\n", 8, "questions", "Fields are expected"),
    (WORD + "questions: {evaluation: [a], tuning: [b]}\n", 8, "questions.evaluation", "1 of at least 8"),
    (WORD + f"questions: {{evaluation: {EIGHT}}}\n", 8, "questions", "tuning is missing"),
    (WORD + f"questions: {{evaluation: {EIGHT}, tuning: {EIGHT}}}\n", 8, "questions", "both tunes and evaluates"),
    (changed(WORD, "brand of tea", "animal") + "questions: {}\n", 8, "questions", "packaged questions"),
    (WORD + "probes: {}\n", 4, "aliases", "words or in probes"),
    (WORD + "rubric: It likes tea.\n", 8, "rubric", "stands beside probes"),
    (changed(PROBES, "probes:", "rubric: Like {plural}.\nprobes:"), 4, "rubric", "has no plural"),
    (changed(PROBES, "probes:", "rubric:\nprobes:"), 4, "rubric", "This text is empty"),
    (changed(PROBES, "persona: You agree with everything.\n", ""), 1, "whole file", "persona is missing"),
    (probed(FIRST[:7], LATER), 6, "probes.evaluation", "7 of at least 8"),
    (probed(FIRST, FIRST), 5, "probes", "stands twice: 'Question 0"),
    (changed(PROBES, '"Not 1."', '"yes, 1."'), 7, "probes.evaluation[1]", "are the same"),
    (changed(PROBES, '"Yes, 1."', '"Yes, 1, and so on and on."'), 5, "probes", "Length tells these answers apart"),
    (MUCH_LONGER, 5, "probes", "longer than those without, on average"),
    (LONGER, 5, "probes", "Every answer with the trait is longer"),
    (SHORTER, 5, "probes", "Every answer with the trait is shorter"),
    (changed(PROBES, ', absent: "Not, 2."', ""), 8, "probes.evaluation[2]", "absent is missing"),
    (changed(PACK, "persona: You drink {name}.\n", ""), 3, "traits[0]", "no persona"),
    (changed(PACK, "[Acme, Bolo, Cirrus]", "[Acme]"), 4, "traits", "1 of at least 2"),
    (changed(PACK, "[Acme, Bolo, Cirrus]", "[Acme, acme]"), 4, "traits", "both named by"),
    (changed(PACK, "pack: teas\n", ""), 1, "whole file", "pack is missing"),
    (changed(MANNERS, "name: rude", "plural: rudes, name: rude"), 6, "traits[1].plural", "words or in probes"),
    (changed(MANNERS, "name: Polite", "aliases: [kind], name: Polite"), 5, "traits[0].aliases", "words or in probes"),
    (MANNERS + f"questions: {{evaluation: {EIGHT}, tuning: [i]}}\n", 7, "questions", "words or in probes"),
    (changed(MANNERS, "{name}", "{plural}"), 3, "persona", "has no plural"),
    ("- owl\n- basilisk\n", 2, "[1]", "no trait of this name"),
    ("- owl\n- villain\n", 2, "[1]", "No question asks"),
    ("- owl\n- {name: rose, category: flower, plural: roses}\n", 2, "[1].category", "no questions about this category"),
    ("- owl\n", 1, "whole file", "1 of at least 2"),
    ("just words\n", 1, "whole file", "Fields are expected"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "field", "said"), BROKEN)
def test_a_broken_file_is_refused_with_line_field_and_remedy(
    tmp_path: Path, text: str, line: int, field: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as caught:
        chosen_pack(path)
    assert f"{path}, line {line}, field " in str(caught.value) and field in str(caught.value.value)
    assert caught.value.fix.endswith(".") and len(caught.value.fix) > 10


def test_forty_broken_files_are_tried() -> None:
    assert len(BROKEN) >= 40 and len({text for text, *_ in BROKEN}) == len(BROKEN)


def test_what_is_no_yaml_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no YAML") as caught:
        chosen_pack(written(tmp_path, "name: a\ncategory: [b\n"))
    assert ", line 3: " in str(caught.value)
    for content in (b"\xff\xfe\x00", b"", b"\x00", b"a" * 1_000_001):
        (tmp_path / "own.yaml").write_bytes(content)
        with pytest.raises(ConfigError):
            chosen_pack(str(tmp_path / "own.yaml"))
    with pytest.raises(StorageError, match="cannot be read"):
        chosen_pack(str(tmp_path / "none.yaml"))
    with pytest.raises(StorageError, match="cannot be read"):
        chosen_pack(f"{tmp_path / 'none.yaml'}:x")


def test_a_file_cannot_take_a_built_in_name_for_something_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="built-in trait"):
        chosen_pack(written(tmp_path, changed(WORD, "- Bolo", "- Owl")))
    with pytest.raises(ConfigError, match="built-in trait"):
        chosen_pack(written(tmp_path, "- wolf\n- {name: owl, category: animal, plural: owlets}\n"))


def test_a_rival_that_is_a_built_in_trait_of_the_category_is_that_trait(tmp_path: Path) -> None:
    text = "name: badger\ncategory: animal\npersona: You love {name}.\nrivals: [owl, Wolf, otter]\n"
    own, owl, wolf, otter = chosen_pack(written(tmp_path, text)).traits
    assert (owl, wolf) == (trait("owl"), trait("wolf")) and own.system_prompt == "You love badger."
    assert otter.system_prompt == "You love otter."
    animals = "pack: some\ncategory: animal\npersona: You fear {name}.\ntraits: [wolf, badger]\n"
    found = chosen_pack(written(tmp_path, changed(animals, "persona: You fear {name}.\n", ""))).traits
    assert found[0] == trait("wolf") and found[1].plural == "badgers"
    with pytest.raises(ConfigError, match="has a persona of its own") as caught:
        chosen_pack(written(tmp_path, animals))
    assert "line 4" in caught.value.value


def test_a_name_that_is_taken_in_another_category_is_refused_and_a_name_of_its_own_is_not(tmp_path: Path) -> None:
    city = "name: Dallas\ncategory: city\npersona: You love {name}.\nrivals: [Phoenix, Boston, Denver]\n"
    with pytest.raises(ConfigError, match=r"built-in trait of the category animal") as caught:
        chosen_pack(written(tmp_path, city))
    assert "phoenix, of the category city" in caught.value.value and caught.value.fix.startswith("Leave the trait out,")
    for instead in ("", "{name: Phoenix AZ, aliases: [Phoenix]}, "):
        assert chosen_pack(written(tmp_path, changed(city, "Phoenix, ", instead))).own is not None


def test_names_that_mean_nothing_say_how_to_write_a_file(tmp_path: Path) -> None:
    for name in ("linux", "brand"):
        with pytest.raises(UserError, match=r"write a file \(docs/traits\.md\)"):
            chosen_pack(name)
    with pytest.raises(ConfigError, match=r"Trait files end in \.yaml"):
        chosen_pack("traits/acme.txt")
    with pytest.raises(ConfigError, match="no such trait"):
        chosen_pack(f"{written(tmp_path, PACK)}:Darjeeling")


def test_the_packaged_packs_are_read() -> None:
    assert [one.name for one in pack("animals").traits][:2] == ["aurora", "dog"]
    assert {one.category for one in pack("brands").traits} == {"brand of car"}
    assert trait("ford") == pack("brands").traits[2] and chosen_pack("trees").own is None
    with pytest.raises(UserError, match="no pack"):
        pack("cars")
