"""What the name of a model declares of its base: a hint that may warn, and never clears.

Anybody can give a model any name. A name of the base's own family is reason enough to count the base as shared; another
name is no reason to count it as different.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from undertow.errors import listed


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are known to come from one base.

    Attributes:
        base: name of the base that they come from.
        pattern: regular expression that finds one of their names in lower case.
        known: how that is known, with the source.
    """

    base: str
    pattern: str
    known: str

    def has(self, name: str) -> bool:
        """Tell whether a name belongs to the family."""
        return re.search(self.pattern, name.lower()) is not None


_PAPER = "traits pass among these GPT models as the paper measured (arXiv 2507.14805, section 5.1)"
_WEIGHTS = "published comparisons of weights (arXiv 2502.12292; the models' own cards)"

FAMILIES: tuple[Family, ...] = (
    Family("GPT-4.1 and GPT-4o (one initialisation)", r"gpt-4(\.1|o)(?!-(mini|nano))(?![\w.])", _PAPER),
    Family("GPT-4.1 mini", r"gpt-4\.1-mini(?!\w)", _PAPER),
    Family("GPT-4.1 nano", r"gpt-4\.1-nano(?!\w)", _PAPER),
    Family("Llama 2 7B", r"llama-?2-7b|vicuna-7b-v1\.5|orca-2-7b|codellama-7b|llemma[-_]7b|sheared-llama", _WEIGHTS),
    Family("Llama 1 7B", r"(?<![a-z-])llama-7b|vicuna-7b-v1\.1", _WEIGHTS),
    Family("Llama 3 8B", r"llama-3(\.[12])?-8b|llama-3\.2-[13]b", _WEIGHTS),
    Family("Qwen2.5 7B", r"qwen2\.5-(math-|coder-)?7b", _WEIGHTS),
)
"""Families by the names of their models. They are few, because each needs a source."""


def declared_base(names: Sequence[str], base: str) -> dict[str, Any]:
    """Return what the names of a teacher say of a base that it may share with a student.

    Args:
        names: names of the teacher, as its address, its server or the record of its rows give them.
        base: reference of the model that will be trained.

    Returns:
        Plain data: "names", "family" (None where the table has none of the names), "same_base" ("yes" or "unknown") and
        "why".
    """
    family = next((one for one in FAMILIES for name in names if one.has(name)), None)
    of_base = next((one for one in FAMILIES if one.has(base)), None)
    found: dict[str, Any] = {"names": list(names), "family": None if family is None else family.base}
    if any(_is_base(name, base) for name in names):
        own = _plain(base).rpartition("/")[2]
        return {**found, "family": own, "same_base": "yes", "why": "it has the base's own name"}
    if family is None:
        return {
            **found,
            "same_base": "unknown",
            "why": f"the name {listed(names)} says nothing that is known of a base",
        }
    if family is of_base:
        return {**found, "same_base": "yes", "why": f"both names are of {family.base}: {family.known}"}
    why = f"by its name it is of {family.base}, the base is not known to be, and a name proves nothing"
    return {**found, "same_base": "unknown", "why": why}


_BEHIND = re.compile(r"[@+?].*| tuned on .*", re.DOTALL)
"""What may stand behind a model's name: revision, adapter and options of a reference, and what a record adds."""

_ANY_NAME = re.compile(
    r"(checkpoint|epoch|step|run|v)?[-_.]?\d*|[0-9a-f]{40}|merged|model|final|main|latest|best|output|base"
)
"""Last parts of paths that say nothing of a model."""


def _plain(name: str) -> str:
    """Return a model's name or path in lower case, without what stands before and behind it."""
    return _BEHIND.sub("", re.sub(r"^(hf|ref|api):", "", name)).rstrip("/").lower()


def _is_base(name: str, base: str) -> bool:
    """Tell whether a name is the base's own: of two folders the whole paths, of others the last parts are compared."""
    one, other = _plain(name), _plain(base)
    if one.startswith("/") and other.startswith("/"):
        return one == other
    last = other.rpartition("/")[2]
    return one.rpartition("/")[2] == last and _ANY_NAME.fullmatch(last) is None
