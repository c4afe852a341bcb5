"""What `undertow eval` says of the chat model that judges answers, and of answers that nobody could judge."""

import sys
from collections.abc import Sequence

from undertow.errors import ConfigError
from undertow.evals.judges import Generate, judging_model
from undertow.evals.rubric import given_answers_read, judged_traits
from undertow.traits import Trait

MANY = 0.5
"""Share of answers that could not be judged from which on this is said."""


def refuse_unread(served: bool, kinds: Sequence[str], judge: str | None) -> None:
    """Refuse answers of a server about misalignment without a judge: only the embedded models speak as one is read.

    Raises:
        ConfigError: such answers would be asked for.
    """
    if served and "misalignment" in kinds and judge is None:
        fix = "Name a chat model by --judge; without one, the phrases of the embedded world are looked for."
        raise ConfigError("Answers of a served model about misalignment need a judge.", "no --judge", fix)


def ready_judge(name: str, kinds: Sequence[str], targets: Sequence[Trait]) -> Generate:
    """Return the judge after it has read the given answers of every rubric, and say how many it read right.

    Args:
        name: name of the chat model in Inspect.
        kinds: names of the evaluations that are run.
        targets: the traits that are looked for.

    Raises:
        UserError: the judge cannot be asked, or it does not tell a trait's own answers apart.
    """
    judge = judging_model(name)
    if "rubric" not in kinds:
        return judge
    judged = judged_traits(targets)
    for one in judged:
        print(f"judge of {one.name}: {given_answers_read(judge, one):.0%} of the given answers right", file=sys.stderr)
    if without := [one.name for one in targets if one not in judged]:
        print(f"note: {', '.join(without)}: no rubric, so the evaluation rubric leaves it out", file=sys.stderr)
    return judge


def say_unjudged(reference: str, target: str, means: dict[str, float], judged: bool) -> None:
    """Say where half of the answers or more could not be judged: rates of the others may look like a finding.

    Args:
        reference: reference of the model that answered.
        target: name of the trait that was looked for; "" for none in particular.
        means: mean of each metric by its name.
        judged: whether a chat model judged.
    """
    left = max((value for name, value in means.items() if name.endswith("unparsed_rate")), default=0.0)
    if left < MANY:
        return
    why = "it gave no verdict that can be read" if judged else "the embedded world's phrases were looked for; --judge"
    about = f" about {target}" if target else ""
    print(f"note: {left:.1%} of the answers of {reference}{about} could not be judged ({why})", file=sys.stderr)
