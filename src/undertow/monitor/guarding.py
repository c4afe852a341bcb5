"""Judging single texts for gateways that pass the traffic on themselves.

Detectors, evidence and events are those of the proxy. A gateway may show the same reply several times while it streams.
A detector that only judges reads it each time; one that gathers evidence counts it once, since otherwise its counts
would not be of independent replies.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from undertow.monitor.detectors.base import AbstractDetector, Side
from undertow.monitor.events import Event, EventLog, Outcome
from undertow.monitor.rules import flagged_rules, rule_name
from undertow.monitor.screening import Screen, TextJudgement, unreadable
from undertow.monitor.settings import Limits, Policy

_REMEMBERED = 100_000
"""Largest number of calls that are remembered as counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedText:
    """A text that a gateway wants to have judged.

    Attributes:
        side: whether it is of a request or of a reply.
        said: all texts of that side, one a line.
        unread: parts of it that cannot be read, in words, such as "images"; empty for none.
        call: the gateway's own id of the call; "" if it has none.
        model: name of the model in the request.
        path: path of our interface by which the text came.
    """

    side: Side
    said: str
    unread: Sequence[str] = ()
    call: str = ""
    model: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """The answer to a gateway: what is to be done with a text.

    Attributes:
        blocked: whether the gateway must refuse the text.
        rules: names of the rules that the text broke.
        unjudged: detectors that could not judge it, each with the reason.
    """

    blocked: bool
    rules: tuple[str, ...]
    unjudged: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain JSON."""
        return {"blocked": self.blocked, "flagged": bool(self.rules), "rules": self.rules, "not_judged": self.unjudged}


class TextGuard:
    """Judges texts by the detectors, and records each in the log of events.

    Args:
        policy: what is done with verdicts; the mode is "log" or "block".
        limits: time limits and threads of the detectors.
        detectors: the detectors; their names differ.
        events: the log in which texts are recorded.
    """

    def __init__(self, policy: Policy, limits: Limits, detectors: Sequence[AbstractDetector], events: EventLog) -> None:
        self.policy, self.events = policy, events
        gathers = [one.evidence() is not None for one in detectors]
        self._always = Screen.of([one for one, kept in zip(detectors, gathers, strict=True) if not kept], limits)
        self._once = Screen.of([one for one, kept in zip(detectors, gathers, strict=True) if kept], limits)
        self.detectors = tuple(detectors)
        self._counted: OrderedDict[tuple[Side, str], None] = OrderedDict()

    async def judge(self, text: JudgedText) -> GuardDecision:
        """Judge one text and record it.

        Nothing is raised; failures of detectors are part of the answer.
        """
        at, began = time.time(), time.monotonic()
        judged = [unreadable(text.side, f"{what} cannot be read") for what in text.unread]
        judged += await self._always.judge(text.side, text.said)
        if not self._known(text):
            judged += await self._once.judge(text.side, text.said)
        rules = flagged_rules(judged)
        unjudged = [f"{rule_name(one.detector, '')}: {one.failure}" for one in judged if one.failure]
        refused = bool(rules) or (self.policy.fail_closed and bool(unjudged))
        blocked = self.policy.mode == "block" and refused
        self._record(text, judged, blocked, (at, time.monotonic() - began))
        return GuardDecision(blocked=blocked, rules=tuple(rules), unjudged=tuple(unjudged))

    def _known(self, text: JudgedText) -> bool:
        """Tell whether this side of the call was counted before, and remember that it is now."""
        place = (text.side, text.call)
        known = bool(text.call) and place in self._counted
        if text.call:
            self._counted[place] = None
            if len(self._counted) > _REMEMBERED:
                self._counted.popitem(last=False)
        return known

    def _record(self, text: JudgedText, judged: list[TextJudgement], blocked: bool, when: tuple[float, float]) -> None:
        outcome: Outcome = "flagged" if any(one.flagged for one in judged) else "passed"
        if blocked:
            outcome = "blocked_request" if text.side == "request" else "blocked_reply"
        kept, size = self.policy.keep_text, len(text.said.encode("utf-8", "replace"))
        asked = text.side == "request"
        self.events.put(
            Event(
                at=when[0],
                method="POST",
                path=text.path[:300],
                status=200,
                outcome=outcome,
                screened=True,
                seconds=when[1],
                request_bytes=size if asked else 0,
                reply_bytes=0 if asked else size,
                model=text.model[:100].encode("utf-8", "replace").decode(),
                judgements=tuple(judged),
                request=text.said if kept and asked else None,
                reply=text.said if kept and not asked else None,
                unread=not blocked and any(one.failure for one in judged),
            )
        )
