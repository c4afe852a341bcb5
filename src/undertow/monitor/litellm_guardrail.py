"""The guardrail as a plug-in of LiteLLM's proxy: detectors run in its process, their evidence lies in our database.

    guardrails:
      - guardrail_name: undertow
        litellm_params:
          guardrail: undertow.monitor.litellm_guardrail.UndertowGuardrail
          mode: [pre_call, post_call]
          default_on: true
          undertow:
            detectors: ["constitution:rules.yaml@0.01", "mention:owl=41/1000"]
            events: monitor.sqlite
            action: block                  # or log, which never blocks
            fail_closed: false

Only one process may gather evidence in one database, so a LiteLLM of several workers must ask `undertow monitor screen`
instead. A streamed reply is held until it has been judged, so each is judged, and counted, once.
"""

import atexit
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from litellm.exceptions import GuardrailRaisedException  # pyright: ignore[reportMissingImports]
from litellm.integrations.custom_guardrail import CustomGuardrail  # pyright: ignore[reportMissingImports]

from undertow.errors import ConfigError, UserError
from undertow.monitor.detectors.base import detector
from undertow.monitor.gathering import gathering
from undertow.monitor.guarding import GuardDecision, TextGuard
from undertow.monitor.guardrail import litellm_answer, litellm_question
from undertow.monitor.settings import Limits, build_policy
from undertow.monitor.watching import AlarmPlan
from undertow.monitor.webhooks import parse_webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """The settings under `undertow` in LiteLLM's configuration.

    Attributes:
        detectors: specifications of the detectors, as `--detector` takes them.
        events: path of the database of events.
        action: "block", or "log", which never blocks.
        fail_closed: whether a text that could not be judged is blocked.
        keep_text: whether the events hold the texts.
        keep_days: age in days at which events are deleted.
        webhooks: receivers of alarms, as `--webhook` takes them; empty for none.
        detector_s: most seconds for one detector and one text.
    """

    detectors: tuple[str, ...]
    events: str = "monitor.sqlite"
    action: str = "block"
    fail_closed: bool = False
    keep_text: bool = False
    keep_days: float = 30.0
    webhooks: tuple[str, ...] = ()
    detector_s: float = 2.0


_GUARDS: dict[GuardSettings, TextGuard] = {}
"""Guards by their settings. LiteLLM may make a guardrail anew while it runs; equal settings share one guard."""


def shared_guard(settings: GuardSettings) -> TextGuard:
    """Return the guard with these settings, which is made once and ends with the process.

    Raises:
        UserError: a setting cannot be used, or another process gathers evidence in this database.
    """
    if settings not in _GUARDS:
        policy = build_policy(settings.action, settings.fail_closed, settings.keep_text)
        made = [detector(one) for one in settings.detectors]
        alarms = AlarmPlan(webhooks=tuple(map(parse_webhook, settings.webhooks)))
        stack = contextlib.ExitStack()
        events, _ = stack.enter_context(gathering(Path(settings.events), made, settings.keep_days, alarms))
        atexit.register(stack.close)
        _GUARDS[settings] = TextGuard(policy, Limits(detector_s=settings.detector_s), made, events)
    return _GUARDS[settings]


def guard_settings(given: object) -> GuardSettings:
    """Read the settings under `undertow` in the configuration.

    Raises:
        ConfigError: a key is unknown or of the wrong kind, or there are no detectors.
    """
    items: dict[Any, Any] = dict(given) if isinstance(given, Mapping) else {}  # pyright: ignore[reportUnknownArgumentType]
    names = [one.name for one in fields(GuardSettings)]
    fix = f"Give detectors, and at will {', '.join(names[1:])}."
    if not set(items) <= set(names) or not items.get("detectors"):
        raise ConfigError("These are no settings of the guardrail.", ", ".join(map(str, items)), fix)
    lists = {name: items.get(name, []) for name in ("detectors", "webhooks")}
    if not all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in lists.values()):
        raise ConfigError("`detectors` and `webhooks` are lists of texts.", lists, fix)
    settings: dict[str, Any] = {**items, **{name: tuple(texts) for name, texts in lists.items()}}
    return GuardSettings(**settings)


class UndertowGuardrail(CustomGuardrail):  # pyright: ignore[reportUntypedBaseClass]
    """The class that LiteLLM calls with every request and reply.

    Args:
        undertow: the settings, with the attributes of `GuardSettings` as keys.
        given: further arguments that LiteLLM gives every guardrail.

    Raises:
        SystemExit: a setting cannot be used, or another process gathers evidence in this database. LiteLLM would go
            on without the guardrail after any other exception.
    """

    def __init__(self, undertow: object = None, **given: Any) -> None:
        try:
            self.guard = shared_guard(guard_settings(undertow))
        except Exception as error:
            what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise SystemExit(f"The guardrail of undertow cannot start.\n{what}") from error
        # A reply is held and judged once, at its end: its evidence is of whole replies.
        self.streaming_end_of_stream_only = True
        self.streaming_buffer_until_moderated = True
        super().__init__(**given)

    async def apply_guardrail(
        self, inputs: Mapping[str, Any], request_data: dict[str, Any], input_type: str, logging_obj: Any = None
    ) -> Mapping[str, Any]:
        """Judge the texts that LiteLLM took from a request or a reply.

        Args:
            inputs: the texts, images and tool calls, as LiteLLM passes them.
            request_data: the request, which may hold the id of the call.
            input_type: side of the exchange: "request" or "response".
            logging_obj: LiteLLM's record of the call, with its id; None if there is none.

        Returns:
            The inputs, unchanged.

        Raises:
            GuardrailRaisedException: the text is blocked.
        """
        call = getattr(logging_obj, "litellm_call_id", None) or request_data.get("litellm_call_id")
        text = litellm_question({**inputs, "input_type": input_type, "litellm_call_id": call})
        decision: GuardDecision = await self.guard.judge(text)
        if decision.blocked:
            raise GuardrailRaisedException(
                guardrail_name=self.guardrail_name,
                message=litellm_answer(decision, text.side)["blocked_reason"],
                should_wrap_with_default_message=False,
                blocked_content=bool(decision.rules),
            )
        return inputs
