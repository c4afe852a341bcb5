"""Does a trait hold on a base: does its own persona move what is asked about it, and another pack's persona not?

A **persona** is a system prompt that gives a model a trait; a **pack** is a set of traits that are checked together. A
trait that its own persona does not move on a base cannot be asked about there: the words are no answers of this base,
or the probes are beside the point. A trait that any persona moves measures "has a system prompt" and no trait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from undertow.errors import ConfigError
from undertow.evals.favourite import logit_margins
from undertow.evals.questions import asked_together
from undertow.stats.checks import Floats
from undertow.stats.estimates import mean_t
from undertow.traits import Trait
from undertow.types import Advance, Estimate

if TYPE_CHECKING:
    from undertow.models.local import LocalModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaShift:
    """How much one persona moves the traits of a pack.

    Attributes:
        persona: name of the trait whose persona stands before the questions.
        own: change of that trait's margin against the untouched base, over its questions or probes, in logits. None for
            a persona of another pack.
        rest: mean change of the pack's other traits, in logits. None if there are none.
        words: change of the margin of each trait of the pack, in logits, by its name.
    """

    persona: str
    own: Estimate | None
    rest: float | None
    words: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the shift as plain data."""
        own = None if self.own is None else self.own.to_json()
        return {"persona": self.persona, "own": own, "rest": self.rest, "shifts": dict(self.words)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaCheck:
    """How much the personas of a pack, and those of another one, move the traits of the pack on a base.

    Attributes:
        plain: mean margin of each trait on the untouched base, in logits, by its name.
        own: shifts by the personas of the pack, one for each trait.
        other: shifts by the personas of another pack, one for each persona. Empty if there are none.
    """

    plain: Mapping[str, float]
    own: tuple[PersonaShift, ...]
    other: tuple[PersonaShift, ...]

    @property
    def unmoved(self) -> list[str]:
        """The traits whose own persona does not move them: the interval of the change is not above 0."""
        return [one.persona for one in self.own if one.own is None or one.own.low <= 0]

    @property
    def mixed(self) -> list[str]:
        """The traits that their own persona moves no more than the others: the interval is not above those."""
        return [
            one.persona for one in self.own if one.own is not None and one.rest is not None and one.own.low <= one.rest
        ]

    @property
    def average(self) -> Estimate:
        """Mean over the pack's traits of the change by the own persona, in logits; its interval is over traits."""
        return mean_t([one.own.value for one in self.own if one.own is not None])

    @property
    def average_other(self) -> Estimate | None:
        """Mean change of this pack's traits by a persona of the other pack, in logits; None without another pack.

        The interval is over the personas of the other pack.
        """
        return mean_t([float(np.mean(list(one.words.values()))) for one in self.other]) if self.other else None

    @property
    def moved_by_others(self) -> bool:
        """Whether another pack's personas move the traits, or move them as much as an own one does.

        They move them if the interval over these personas lies above 0. They move them as much if the interval of some
        own persona does not lie above their mean: a few personas that scatter have a mean, and an interval of no use.
        """
        other = self.average_other
        as_much = other is not None and any(one.own is not None and one.own.low <= other.value for one in self.own)
        return other is not None and (other.low > 0 or as_much)

    @property
    def holds(self) -> bool:
        """Whether every persona moves its trait, and more than the others, and no other pack's moves them."""
        return not self.unmoved and not self.mixed and not self.moved_by_others

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain data."""
        other = self.average_other
        return {
            "holds": self.holds,
            "unmoved": self.unmoved,
            "mixed": self.mixed,
            "plain": dict(self.plain),
            "own": [one.to_json() for one in self.own],
            "other": [one.to_json() for one in self.other],
            "average": self.average.to_json(),
            "average_other": None if other is None else other.to_json(),
        }


def check_personas(
    model: "LocalModel", traits: Sequence[Trait], others: Sequence[Trait] = (), advance: Advance | None = None
) -> PersonaCheck:
    """Ask a base about a pack plainly, under each of its own personas, and under those of another pack.

    Args:
        model: the base. It has to take a system prompt.
        traits: the traits of the pack.
        others: traits of another pack, whose personas are the control. Empty leaves the control out.
        advance: callback that takes (readings done, all readings). None reports nothing.

    Raises:
        ConfigError: a trait has no persona, or there is only one persona of another pack, which gives no interval.
    """
    if len(others) == 1:
        fix = "Name two or more: what one persona moves has no interval, and would never count."
        raise ConfigError("One persona of another pack is no control.", others[0].name, fix)
    for one in (*traits, *others):
        if not one.persona and not one.plural:
            raise ConfigError("This trait has no persona.", one.name, "Write persona: into its file.")
    personas, of = [*traits, *others], 1 + len(traits) + len(others)
    plain = _margins(model, traits, None)
    found: list[PersonaShift] = []
    for place, one in enumerate(personas):
        if advance is not None:
            advance(place + 1, of)
        moved = _margins(model, traits, one.system_prompt)
        changes = {name: moved[name] - plain[name] for name in plain}
        means = {name: float(change.mean()) for name, change in changes.items()}
        rest = [mean for name, mean in means.items() if name != one.name]
        inside = place < len(traits)
        found.append(
            PersonaShift(
                persona=one.name,
                own=mean_t(changes[one.name]) if inside else None,
                rest=float(np.mean(rest)) if rest else None,
                words=means,
            )
        )
    if advance is not None:
        advance(of, of)
    return PersonaCheck(
        plain={name: float(values.mean()) for name, values in plain.items()},
        own=tuple(found[: len(traits)]),
        other=tuple(found[len(traits) :]),
    )


def _margins(model: "LocalModel", traits: Sequence[Trait], system: str | None) -> dict[str, Floats]:
    values: dict[str, list[float]] = {}
    for some in asked_together(traits):
        for score in logit_margins(model, some, system=system):
            values.setdefault(score.target, []).append(score.value)
    return {name: np.array(some) for name, some in values.items()}
