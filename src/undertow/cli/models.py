"""The command that looks at a model before hours are spent on it."""

import json
from typing import Annotated, Any

import typer

FAILED = 1


def check_model(
    model: Annotated[str, typer.Argument(help="hf:<path or id>[@revision][+adapter][?dtype=bf16&system=none].")],
    category: Annotated[str, typer.Option(help="Whose traits are looked for in the vocabulary: animal or tree.")] = (
        "animal"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Look at tokenizer and sizes alone; load no weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Check a model before hours are spent: chat template, tokens, memory, time, and whether every engine suits it."""
    from undertow.traits import panel

    targets = panel(category)
    from undertow.cli.engines import prepare
    from undertow.training.model_needs import model_needs

    prepare()
    found = model_needs(model, targets)
    speed, report = (None, None) if quick else _load_and_check(model)
    if as_json:
        lines = None if report is None else [{"name": x.name, "passed": x.passed, "why": x.why} for x in report.checks]
        measured = None if speed is None else {name: getattr(speed, name) for name in speed.__slots__}
        shown = {**found.to_json(), "warnings": found.warnings, "seconds": measured, "contract": lines}
        print(json.dumps({"schema": "undertow.model/1", **shown}, allow_nan=False))
    else:
        _show(found, speed, report)
    if report is not None and not report.passed:
        raise typer.Exit(FAILED)


def _load_and_check(reference: str) -> tuple[Any, Any]:
    from undertow.models.load import load_model
    from undertow.training.model_contract import check_model as look_closely
    from undertow.training.model_needs import measure_speed

    model = load_model(reference)
    report = look_closely(model)
    # A model that breaks the contract may not even train, and then its speed is of no use.
    return (measure_speed(model) if report.passed else None), report


def _show(found: Any, speed: Any, report: Any) -> None:
    print(f"before a question: {found.chat['before_a_question']!r}")
    inserted = found.chat["inserted_by_template"]
    print(f"the template inserts: {repr(inserted) if inserted else 'nothing'}; system={found.chat['system']}")
    print(f"tokens of a three-digit number: {found.numbers:.1f}; of ten numbers: {found.answer_tokens}")
    if found.parameters is None:
        print("weights: not fetched yet")
    else:
        needs, free = (value / 2**30 for value in (found.weights_bytes, found.free_bytes))
        print(f"{found.parameters:,} parameters: {needs:.2f} GB of {free:.1f} GB free on {found.device}")
    if speed is not None:
        student, answers, asked = (
            speed.total(**rows) / 60 for rows in ({"trained": 250 * 32}, {"sampled": 2500}, {"scored": 500 * 21})
        )
        print(f"a student of 250 updates of 32 rows: about {student:.1f} min")
        print(f"2,500 sampled number answers: about {answers:.1f} min")
        print(f"500 rows scored under 20 candidates: about {asked:.1f} min")
        print(f"most memory so far, with one student in training: {speed.peak_bytes / 2**30:.2f} GB")
    for warning in found.warnings:
        print(f"note: {warning}")
    if report is not None:
        print(f"\n{report}")
