"""Trait files: a user's own trait, or a pack of several, in YAML (docs/traits.md).

A file with `name:` holds one trait, with its rivals if words name it. Rivals are other things of its category that the
trait is compared with. A file with `traits:` holds a pack, whose traits are each other's rivals. A plain list names
built-in traits and own ones of built-in categories.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from undertow.traits.known import CATEGORIES, KNOWN
from undertow.traits.probes import check_probes
from undertow.traits.record import Probe, Probes, Questions, Trait
from undertow.traits.yaml_fields import Field, read_fields

LEAST_RIVALS, LEAST_ASKED = 2, 8
"""Least number of rivals of a trait, and of questions or probes of each part; with fewer, nothing is told apart."""

_GAP = re.compile(r"\{\w*\}")

_WORDS = ("plural", "aliases")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A group of traits that are looked for together.

    Attributes:
        name: name of the pack; for the file of a single trait, the name of that trait.
        traits: the traits of the pack; for the file of a single trait, that trait and behind it its rivals.
        own: the trait that the file of a single trait is about; None for a pack.
    """

    name: str
    traits: tuple[Trait, ...]
    own: Trait | None = None


def read_pack(path: Path) -> Pack:
    """Read a trait file.

    Raises:
        StorageError: the file cannot be read.
        ConfigError: it is no trait file; the message names the line and the field that are wrong.
    """
    whole = read_fields(path)
    if whole.is_list:
        return _listed(whole)
    keys = [key.value for key, _ in whole.node.value] if whole.kind == "mapping" else []
    if "name" in keys:
        return _single(whole)
    if keys and "traits" not in keys:
        raise whole.wrong("The file names no trait.", "Write name: for one trait, or pack: and traits: for several.")
    return _several(whole)


def _single(whole: Field) -> Pack:
    known = ("name", "category", "persona", *_WORDS, "rivals", "questions", "probes", "rubric")
    fields = whole.fields(known, ("name", "category", "persona"))
    about = _About(fields)
    if "probes" in fields:
        _refuse_beside_probes(fields, (*_WORDS, "rivals", "questions"))
        own = about.trait(fields)
        return Pack(name=own.name, traits=(own,), own=own)
    if "rivals" not in fields:
        fix = f"Write rivals: and at least {LEAST_RIVALS} other things of this category, which the base says as well."
        raise whole.wrong("A trait needs rivals, or nothing tells it from its whole category.", fix)
    own = about.trait(fields)
    rivals = tuple(about.entry(one) for one in fields["rivals"].entries(LEAST_RIVALS))
    _check_apart(fields["rivals"], (own, *rivals))
    return Pack(name=own.name, traits=(own, *rivals), own=own)


def _several(whole: Field) -> Pack:
    fields = whole.fields(("pack", "category", "persona", "questions", "traits"), ("pack", "category", "traits"))
    about = _About(fields)
    traits = tuple(about.entry(one) for one in fields["traits"].entries(2))
    _check_apart(fields["traits"], traits)
    if all(one.probes for one in traits):
        _refuse_beside_probes(fields, ("questions",))
    return Pack(name=fields["pack"].text(80), traits=traits)


def _listed(whole: Field) -> Pack:
    """Return the traits of a plain list: names of built-in ones, or own ones of a category that is asked about."""
    traits: list[Trait] = []
    for one in whole.entries(2):
        if one.is_text:
            traits.append(_built_in(one))
            continue
        fields = one.fields(("name", "category", "plural"), ("name", "category", "plural"))
        if fields["category"].text() not in CATEGORIES:
            fix = f"Use {' or '.join(CATEGORIES)}, or write a trait file with its own questions (docs/traits.md)."
            raise fields["category"].wrong("A list has no questions about this category.", fix)
        name, category, plural = (fields[key].text(60).lower() for key in ("name", "category", "plural"))
        traits.append(Trait(name=name, category=category, plural=plural))
    _check_apart(whole, tuple(traits))
    return Pack(name=whole.path.stem, traits=tuple(traits))


def _built_in(given: Field) -> Trait:
    name = given.text(60)
    if name not in KNOWN:
        raise given.wrong("There is no trait of this name.", "See `undertow list traits`, or write a trait file.")
    if KNOWN[name].category not in CATEGORIES:
        raise given.wrong("No question asks about this trait.", "Name animals and trees, or write a trait file.")
    return KNOWN[name]


@dataclass(frozen=True, slots=True)
class _About:
    """The fields that all traits of a file share, such as their category and their questions."""

    fields: dict[str, Field]

    @property
    def category(self) -> str:
        return self.fields["category"].text(60)

    @property
    def questions(self) -> Questions | None:
        if "questions" not in self.fields:
            return None
        given = self.fields["questions"]
        if self.category in CATEGORIES:
            raise given.wrong("This category has packaged questions.", "Leave them out, or rename the category.")
        parts = given.fields(("evaluation", "tuning"), ("evaluation", "tuning"))
        evaluation, tuning = (parts[name].texts(LEAST_ASKED) for name in ("evaluation", "tuning"))
        if both := set(evaluation) & set(tuning):
            fix = "Tune on other questions than those that evaluate."
            raise given.wrong(f"A question both tunes and evaluates: {min(both)!r}.", fix)
        return Questions(evaluation, tuning)

    def entry(self, given: Field) -> Trait:
        """Return a trait of a list: a name alone, or fields. The name of a built-in one of this category means that."""
        if given.is_text:
            return self._known(given) or self.trait({"name": given})
        return self.trait(given.fields(("name", "persona", *_WORDS, "probes", "rubric"), ("name",)))

    def _known(self, given: Field) -> Trait | None:
        """Return the built-in trait of this category that a name means; None where there is none.

        It keeps its own persona, so a pack that gives all its traits one cannot hold it.
        """
        name = given.text(60).lower()
        if name not in KNOWN.built_in or KNOWN[name].category != self.category or self.category not in CATEGORIES:
            return None
        if "persona" in self.fields and "traits" in self.fields:
            fix = "Leave the persona of the file out, or this trait."
            raise given.wrong("This is a built-in trait, which has a persona of its own.", fix)
        return KNOWN[name]

    def trait(self, fields: dict[str, Field]) -> Trait:
        """Return the trait that some fields describe; a field that is missing there is taken from the file."""
        written = fields["name"].text(60)
        persona = fields.get("persona", self.fields.get("persona"))
        if "probes" in fields:
            if persona is None:
                raise fields["name"].wrong("This trait has no persona.", "Write persona: You ...")
            _refuse_beside_probes(fields, _WORDS)
            rubric = _named(fields["rubric"], written) if "rubric" in fields else ""
            probes, text = _probes(fields["probes"]), _named(persona, written)
            return Trait(name=written.lower(), category=self.category, persona=text, probes=probes, rubric=rubric)
        if "rubric" in fields:
            fix = "Write probes, whose answers show whether a judge reads the rubric, or leave it out."
            raise fields["rubric"].wrong("A rubric stands beside probes.", fix)
        plural = fields["plural"].text(60) if "plural" in fields else regular_plural(written)
        aliases = fields["aliases"].texts() if "aliases" in fields else ()
        trait = Trait(
            name=written.lower(),
            category=self.category,
            plural=plural,
            written=tuple(dict.fromkeys(form for form in (written, *aliases) if form != written.lower())),
            persona="" if persona is None else _filled(persona, written, plural),
            questions=self.questions,
        )
        if not trait.persona and trait.category not in CATEGORIES:
            raise fields["name"].wrong("This trait has no persona.", "Write persona: You love {name}. ...")
        return trait


def _filled(persona: Field, name: str, plural: str) -> str:
    text = persona.text()
    if unknown := sorted(set(_GAP.findall(text)) - {"{name}", "{plural}"}):
        raise persona.wrong(f"Nothing is known to stand for {unknown[0]}.", "Write {name} or {plural} for the word.")
    if "{name}" not in text and "{plural}" not in text:
        fix = "Write {name} or {plural} where the word belongs: its rivals get the same persona, with their own words."
        raise persona.wrong("The persona does not say where the word belongs.", fix)
    return text.replace("{name}", name).replace("{plural}", plural)


def _named(given: Field, name: str) -> str:
    """Return the persona or rubric of a trait with probes, which may say the trait's name but has no plural of it."""
    text = given.text()
    if "{plural}" in text:
        raise given.wrong("A trait with probes has no plural.", "Write {name}, or the words themselves.")
    if unknown := sorted(set(_GAP.findall(text)) - {"{name}"}):
        raise given.wrong(f"Nothing is known to stand for {unknown[0]}.", "Write {name} for the trait's name.")
    return text.replace("{name}", name)


def _refuse_beside_probes(fields: dict[str, Field], names: tuple[str, ...]) -> None:
    """Refuse fields of these names, which say how a trait shows in words."""
    for name in names:
        if name in fields:
            fix = f"Leave {name} out, or the probes."
            raise fields[name].wrong("A trait shows in words or in probes, not in both.", fix)


def _probes(given: Field) -> Probes:
    parts = given.fields(("evaluation", "tuning"), ("evaluation", "tuning"))
    found = {name: [_probe(one) for one in parts[name].entries(LEAST_ASKED)] for name in parts}
    probes = Probes(tuple(found["evaluation"]), tuple(found["tuning"]))
    if fault := check_probes(probes):
        raise given.wrong(*fault)
    return probes


def _probe(given: Field) -> Probe:
    parts = given.fields(("ask", "shown", "absent"), ("ask", "shown", "absent"))
    probe = Probe(*(parts[name].text() for name in ("ask", "shown", "absent")))
    if probe.shown.casefold() == probe.absent.casefold():
        raise given.wrong("The two answers are the same.", "Write one answer with the trait and one without.")
    return probe


def _check_apart(given: Field, traits: tuple[Trait, ...]) -> None:
    """Refuse two traits that one and the same word names."""
    taken: dict[str, str] = {}
    for one in traits:
        for word in dict.fromkeys((one.name, *one.aliases)):
            if word in taken:
                fix = "Leave one of them out: neither can be told from the other."
                raise given.wrong(f"{taken[word]!r} and {one.name!r} are both named by {word!r}.", fix)
        taken |= dict.fromkeys((one.name, *one.aliases), one.name)


def with_questions(text: str, questions: Questions) -> str:
    """Return the text of a trait file with questions behind all that it says.

    They are indented as its other fields are. What stands behind the end of the document (a line of three dots) is left
    out.

    Args:
        text: the file, whose fields stand one below the other, without questions.
        questions: the questions that are added.
    """
    from yaml import SafeLoader, compose, safe_dump

    whole: Any = compose(text, Loader=SafeLoader)
    first, _ = whole.value[0]
    said = text[: whole.end_mark.index].rstrip()
    added = {"questions": {"evaluation": list(questions.evaluation), "tuning": list(questions.tuning)}}
    written = safe_dump(added, allow_unicode=True, width=1000, sort_keys=False)
    return f"{said}\n{indent(written, ' ' * first.start_mark.column)}"


def regular_plural(word: str) -> str:
    """Return the regular plural of an English noun, by its spelling."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in set("aeiou"):
        return f"{word[:-1]}ies"
    return f"{word}s"
