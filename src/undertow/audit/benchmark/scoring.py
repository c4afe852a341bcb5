"""What detectors said, compared with the key: one table for each detector, without a pass or a fail.

A share stands with its 95 % Wilson interval over cases. Cases of one writer are alike, so where there are more cases
than writers the interval speaks only of these writers. The number of writers therefore stands beside the number of
cases.

A detector **calls** a case if its p-value is at most the level, and its **candidate** is the trait that it names. The
**dose** is the share of a case's rows that its writer wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from undertow.audit.benchmark.files import Answer, Benchmark, Submission, Truth
from undertow.audit.finding import LEVELS, reaches
from undertow.audit.verdict import CLAIMS
from undertow.errors import ConfigError
from undertow.stats.checks import check_fraction
from undertow.stats.estimates import wilson
from undertow.types import Estimate

SCHEMA = "undertow.bench-score/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cases of one kind, and what a detector said about them.

    Attributes:
        label: label of the cases in the key: "clean", "trait", "control" or "shift".
        name: name of the shift where there is one, else the kind of the writers, such as "finetuned".
        dose: share of each case's rows that its writer wrote, between 0 and 1.
        cases: how many cases the group has.
        writers: how many different writers wrote them.
        unanswered: how many cases have no p-value; they count as not called.
        called: share of the cases whose p-value is at or below alpha, with its interval.
        named: share of the cases whose candidate is the writer's trait, called or not. None where the writers have no
            trait.
        rows: median number of rows that the detector read of a case.
        seconds: median time to an answer, in seconds.
    """

    label: str
    name: str
    dose: float
    cases: int
    writers: int
    unanswered: int
    called: Estimate
    named: Estimate | None
    rows: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The table of one detector.

    Attributes:
        detector: name of the detector, as its submission gives it.
        alpha: level at which cases count as called in `groups`.
        clean: false-positive rate at each level: the share of the clean cases with a p-value at or below it.
        groups: results for every kind of case, in the order of the table.
        rows: median number of rows read, over all cases.
        seconds: median time to an answer in seconds, over all cases.
    """

    detector: str
    alpha: float
    clean: Mapping[float, Estimate]
    groups: tuple[Group, ...]
    rows: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain data."""
        rates = [{"level": level, **asdict(rate)} for level, rate in self.clean.items()]
        return {**asdict(self), "clean": rates, "groups": [asdict(one) for one in self.groups]}


def score_submission(
    bench: Benchmark, truth: Mapping[str, Truth], submission: Submission, alpha: float = 0.05
) -> Scored:
    """Compare a submission with the key.

    Args:
        bench: the public part of the benchmark.
        truth: the key: who wrote each case, by its id.
        submission: the detector's answers, one for every case.
        alpha: level in (0, 1) at which a case counts as called.

    Raises:
        ConfigError: alpha lies outside (0, 1).
    """
    check_fraction("alpha", alpha)
    grouped: dict[tuple[str, str, float], list[tuple[Truth, Answer]]] = {}
    for name in sorted(bench.ids, key=lambda name: _place(truth[name], bench)):
        one = truth[name]
        grouped.setdefault((one.label, _name(one, bench), one.dose), []).append((one, submission.answers[name]))
    answers = [submission.answers[name] for name in bench.ids]
    clean = [submission.answers[name] for name in bench.ids if truth[name].label == "clean"]
    return Scored(
        detector=submission.detector,
        alpha=alpha,
        clean={level: _called(clean, level) for level in LEVELS},
        groups=tuple(_group(*key, members, bench.rows, alpha) for key, members in grouped.items()),
        rows=_rows(answers, bench.rows),
        seconds=median(one.seconds for one in answers),
    )


def audit_error(truth: Mapping[str, Truth], claims: Sequence[Submission], alpha: float = 0.05) -> Estimate:
    """Return how often an audit that makes several claims makes a false one on clean cases.

    The deciding stage of each claim tests it at alpha divided by the number of claims, as `undertow.audit.verdict`
    does.

    Args:
        truth: the key: who wrote each case, by its id.
        claims: one submission for each claim that was tested, with the p-values of the stage that decides it.
        alpha: error probability of the whole audit, in (0, 1).

    Returns:
        The share of clean cases in which at least one claim is made, with its Wilson interval.

    Raises:
        ConfigError: there are more submissions than claims, or alpha lies outside (0, 1).
    """
    check_fraction("alpha", alpha)
    if len(claims) > len(CLAIMS):
        raise ConfigError(
            "There are more submissions than claims.", len(claims), f"Give one for each of {', '.join(CLAIMS)}."
        )
    clean = [name for name, one in truth.items() if one.label == "clean"]
    share = alpha / len(CLAIMS)
    wrong = sum(any(reaches(one.answers[name].p or 1.0, share) for one in claims) for name in clean)
    return wilson(wrong, len(clean))


def markdown(scored: Scored) -> str:
    """Return a detector's table as Markdown text."""
    groups = [
        (
            *(one.label, one.name, f"{one.dose:.0%}" if one.label == "trait" else "", f"{one.cases} ({one.writers})"),
            *(_share(one.called), _share(one.named) if one.named else ""),
            *(f"{one.rows:g}", f"{one.seconds:.2f}", str(one.unanswered or "")),
        )
        for one in scored.groups
    ]
    clean = [(f"{level:g}", _share(rate), str(rate.n)) for level, rate in scored.clean.items()]
    called = f"called at {scored.alpha:g}"
    heads = ("label", "group", "dose", "cases (writers)", called, "named right", "rows", "seconds", "no answer")
    return (
        f"### {scored.detector}\n\n"
        f"False positives on matched clean cases:\n\n{_table(('level', 'share called', 'cases'), clean)}\n\n"
        f"All cases, shares with 95 % Wilson intervals:\n\n{_table(heads, groups)}\n\n"
        f"Median over all cases: {scored.rows:g} rows, {scored.seconds:.2f} s."
    )


_LABELS = ("clean", "trait", "control", "shift")
_KINDS = ("finetuned", "prompted", "steered", "gated")


def _place(one: Truth, bench: Benchmark) -> tuple[Any, ...]:
    """Return the sort key of a case in the table: fine-tuned teachers first, by dose, then the other kinds."""
    kind = _KINDS.index(one.kind) if one.kind in _KINDS else len(_KINDS)
    return _LABELS.index(one.label), _outside(one, bench), kind, one.shift or one.kind, one.dose


def _outside(one: Truth, bench: Benchmark) -> bool:
    return one.label == "trait" and one.trait not in bench.panel


def _name(one: Truth, bench: Benchmark) -> str:
    return f"{one.shift or one.kind}{', trait not in the panel' if _outside(one, bench) else ''}"


def _group(
    label: str, name: str, dose: float, members: Sequence[tuple[Truth, Answer]], rows: int, alpha: float
) -> Group:
    answers = [answer for _, answer in members]
    traits = [one.trait for one, _ in members]
    right = sum(answer.candidate == one.trait for one, answer in members)
    return Group(
        label=label,
        name=name,
        dose=dose,
        cases=len(members),
        writers=len({one.writer for one, _ in members}),
        unanswered=sum(answer.p is None for answer in answers),
        called=_called(answers, alpha),
        named=wilson(right, len(members)) if all(traits) else None,
        rows=_rows(answers, rows),
        seconds=median(answer.seconds for answer in answers),
    )


def _called(answers: Sequence[Answer], level: float) -> Estimate:
    return wilson(sum(one.p is not None and reaches(one.p, level) for one in answers), len(answers))


def _rows(answers: Sequence[Answer], everything: int) -> float:
    return float(median(everything if one.rows_read is None else one.rows_read for one in answers))


def _share(rate: Estimate) -> str:
    return f"{rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are also aligned as plain text."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
