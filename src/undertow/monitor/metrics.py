"""The state as metrics for Prometheus: text format 0.0.4, one family after another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]
"""Labels and value of one sample of a metric."""


def metrics_text(state: Mapping[str, Any]) -> bytes:
    """Return the metrics of a state, which `Admin.state` returns."""
    health, evidence = state["health"], state["evidence"]
    by_outcome: Sequence[Mapping[str, Any]] = state["totals"]
    families = [
        _family("undertow_up_seconds", "gauge", "Time since the start.", [({}, health["uptime_s"])]),
        _family("undertow_exchanges_active", "gauge", "Exchanges under way.", [({}, health["active"])]),
        _family("undertow_events_waiting", "gauge", "Events not yet written.", [({}, health["events_waiting"])]),
        _family("undertow_events_lost_total", "counter", "Events that could not be stored.",
                [({}, health["events_lost"])]),
        _family("undertow_exchanges_total", "counter", "Exchanges in the database's life, by how they ended.",
                _summed(by_outcome, "exchanges")),
        _family("undertow_exchange_seconds_total", "counter", "Time of all these exchanges.",
                _summed(by_outcome, "seconds")),
        _family("undertow_exchanges_screened_total", "counter", "Exchanges that detectors were asked about.",
                _summed(by_outcome, "screened")),
        _family("undertow_exchanges_unjudged_total", "counter", "Exchanges that some detector could not judge.",
                _summed(by_outcome, "unjudged")),
        _family("undertow_exchanges_unread_total", "counter",
                "Exchanges of which something was passed on that detectors should have read and did not.",
                _summed(by_outcome, "unread")),
        _family("undertow_server_errors_total", "counter", "Exchanges that the client got a status of 500 or more for.",
                _summed(by_outcome, "errors")),
        _family("undertow_alarms_open", "gauge", "Alarms that nobody closed.", [({}, health["alarms"]["open"])]),
        _family("undertow_alarms_untold", "gauge", "Alarms that some receiver has not taken yet.",
                [({}, health["alarms"]["untold"])]),
        _family("undertow_evidence_log_e", "gauge", "Natural logarithm of the evidence now.",
                _of(evidence, "log_e")),
        _family("undertow_evidence_highest_log_e", "gauge", "Its highest value so far.", _of(evidence, "highest")),
        _family("undertow_evidence_needed_log_e", "gauge", "The bound at which it raises an alarm.",
                _of(evidence, "needed")),
        _family("undertow_evidence_texts_total", "counter", "Texts that were counted.", _of(evidence, "n")),
        _family("undertow_evidence_hits_total", "counter", "Texts that counted against the null.",
                _of(evidence, "hits")),
    ]  # fmt: skip
    return "".join(families).encode()


def _summed(rows: Iterable[Mapping[str, Any]], column: str) -> list[Sample]:
    return [({"outcome": row["outcome"]}, row[column]) for row in rows]


def _of(evidence: Mapping[str, Mapping[str, Any]], key: str) -> list[Sample]:
    return [({"evidence": name}, one[key]) for name, one in evidence.items()]


def _family(name: str, kind: str, told: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    plain = value.encode("utf-8", "replace").decode()
    return plain.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(float(value))
