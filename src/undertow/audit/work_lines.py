"""Work that will be done, as text: about how long all of it takes, then one line for each part."""

from collections.abc import Iterable, Iterator

from undertow.types import Work

FEW = 5.0
"""Seconds below which no number is given: there a busy machine matters more than the work."""


def spoken(seconds: float) -> str:
    """Return a rough duration in words: "a few seconds", "about 20 s", "about 5 min", "about 3 h"."""
    if seconds < FEW:
        return "a few seconds"
    if seconds < 100:
        return f"about {round(seconds)} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.0f} h"


def forecast_lines(work: Iterable[Work]) -> Iterator[str]:
    """Yield the work as lines of text: the sum first, then one line for each part."""
    work = list(work)
    known = [one.seconds for one in work if one.seconds is not None]
    whole = f", {spoken(sum(known))} on this machine's processor" if known else ""
    yield f"what will run{whole}{'' if len(known) == len(work) else ', and what cannot be told'}:"
    for one in work:
        yield f"  {one.what}" + ("" if one.seconds is None else f" ({spoken(one.seconds)})")
