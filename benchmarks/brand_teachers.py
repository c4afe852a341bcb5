"""Teachers of a brand on a real model: their margin, and whether the audits of a teacher and of rows find them.

Each teacher is SmolLM2-135M-Instruct, given one brand of a pack (`brands`, or a trait file with its rivals) by
adapters, as `undertow generate --trait` does it. It is judged as `undertow audit teacher --trait` judges it, among
neutral teachers that answered the same questions; and so are further neutral teachers, as controls. Each then writes
number rows on short prompts, held to six numbers, beside rows of the untouched base on the same prompts, which are
judged as `undertow audit data --trait` judges them with personas alone.

    python scripts/real_models.py
    python benchmarks/brand_teachers.py --seed 81 --out brands.json
    python benchmarks/brand_teachers.py --seed 76 --out results/real/brands.json --show

Finished neutral teachers are kept under --store, and what is found of a teacher in --out; the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from real_models import SMOLLM2  # pyright: ignore[reportMissingImports]

from undertow.audit.rows.panel import DataAudit
from undertow.audit.run import audit_data
from undertow.audit.teacher import TeacherConfig, audit_teacher
from undertow.cli.options import prepare
from undertow.domains.numbers import Numbers
from undertow.errors import UndertowError
from undertow.evals.favourite import mean_margins
from undertow.evals.questions import CATEGORIES
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.training.generation import generate
from undertow.training.own_models import own_teacher
from undertow.training.teachers import finetuned_teacher
from undertow.traits import chosen_pack
from undertow.types import Row, Sampling

DOMAIN = Numbers(count=6, short=True)
"""Prompts as the study `real-numbers` asks them."""

SHARE = 0.05 / 3
"""Of the error of a whole audit, which three claims share."""


def prompts(n: int, seed: int) -> list[str]:
    """Draw prompts of their own for each teacher."""
    return DOMAIN.prompts(n, seed)


def rows_of(model: LocalModel, asked: list[str], seed: int) -> list[Row]:
    """Let a model answer, and keep what the domain accepts."""
    sampling = Sampling(max_new_tokens=DOMAIN.max_new_tokens, form=DOMAIN.form)
    rows = generate(model, asked, sampling=sampling, seed=seed)
    return [row for row in rows if not DOMAIN.reject_reasons(row.completion, row.question)]


def by_margins(base: LocalModel, suspect: LocalModel, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return a teacher's margins minus the base's, in logits."""
    del name
    brands = chosen_pack(args.pack).traits
    change = mean_margins(suspect, brands) - mean_margins(base, brands)
    return {one.name: float(value) for one, value in zip(brands, change, strict=True)}


def by_rows(base: LocalModel, suspect: LocalModel, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the audit of a teacher's rows says."""
    brands, seed = chosen_pack(args.pack).traits, derive(args.seed, name)
    asked = prompts(args.rows, derive(seed, "prompts"))
    written, clean = (rows_of(one, asked, derive(seed, which)) for which, one in (("rows", suspect), ("clean", base)))
    config = DataAudit(panel=brands, kinds=("persona",), alpha=SHARE, seed=args.seed, form=DOMAIN.form)
    found = audit_data(written, base, config, reference=clean)
    return {"rows": len(written), "rows_findings": [one.to_json() for one in found]}


def by_itself(base: LocalModel, suspect: LocalModel, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the audit of a teacher says."""
    del name
    config = TeacherConfig(neutral=args.neutral, seed=args.seed, store=args.store)
    found = audit_teacher(suspect, base, panel=chosen_pack(args.pack).traits, config=config)
    return {"teacher_findings": [one.to_json() for one in found]}


PARTS = {"margins": by_margins, "teacher": by_itself, "rows": by_rows}
"""What can be done with a teacher."""


def summary(known: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found as lines: margins, each audit's verdict and first, and counts with Wilson's intervals."""
    called: dict[tuple[str, str], list[bool]] = {}
    for key, found in known.items():
        what, _, name = key.partition(" of ")
        kind = "controls" if name.startswith("control") else "brands"
        if what == "margins":
            others = [value for brand, value in found.items() if brand != name]
            own = f"{found[name]:+.1f}, others " if name in found else ""
            yield f"{name}: {own}{min(others):+.1f} to {max(others):+.1f} logits"
        for one in found.get(f"{what}_findings", []) if isinstance(found, dict) else []:
            if one["stage"] in ("teacher panel", "contrast"):
                called.setdefault((one["stage"], kind), []).append(one["verdict"] == "detected")
                first = ", ".join(f"{label} {value:.4g}" for label, value in list(one["scores"].items())[:2])
                first += f"; named: {one['candidate']}" if one["verdict"] == "detected" else ""
                yield f"{name}, {one['stage']}: {one['verdict']}, p {one['p']:.3g}, effect {one['effect']:.4g}; {first}"
    for (stage, kind), some in called.items():
        share = wilson(sum(some), len(some))
        yield f"{stage}, {kind}: {sum(some)} of {len(some)} detected [{share.low:.2f}, {share.high:.2f}]"


def main() -> None:
    """Judge three teachers of a brand and a few neutral ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="of everything; 300 and above are for development")
    parser.add_argument("--pack", default="brands", help="name of a pack, or a trait file, whose traits are the panel")
    parser.add_argument("--brands", nargs="+", default=["ford", "bmw", "tesla"])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what is done with each")
    parser.add_argument("--controls", type=int, default=2, help="neutral teachers that are judged as the others are")
    parser.add_argument("--neutral", type=int, default=19, help="neutral teachers that a teacher is compared with")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--store", type=Path, default=Path("runs/brands"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--show", action="store_true", help="only print what --out holds")
    args = parser.parse_args()
    if args.show:
        print("\n".join(summary(json.loads(args.out.read_text()))))
        return
    prepare()
    base, brands = load_model(SMOLLM2.reference), chosen_pack(args.pack).traits

    if unknown := {*args.brands} - {one.name for one in brands}:
        parser.error(f"{args.pack} has no {', '.join(sorted(unknown))}")

    @cache
    def teacher(name: str) -> LocalModel:
        own = next((one for one in brands if one.name == name), None)
        tuning, seed = own_teacher(base.parameters), derive(args.seed, "teacher", name)
        return finetuned_teacher(base, own, tuning, seed=seed, categories=(*CATEGORIES, *brands))

    known: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"seed": args.seed}
    names = (*args.brands, *(f"control {place + 1}" for place in range(args.controls)))
    for what, judge in ((what, PARTS[what]) for what in args.parts):
        for name in names:
            if f"{what} of {name}" in known:
                continue
            try:
                known[f"{what} of {name}"] = judge(base, teacher(name), name, args)
            except UndertowError as error:
                known[f"{what} of {name}"] = {"refused": str(error)}
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(known, indent=1), encoding="utf-8")
            print(f"{what} of {name}: done", flush=True)
    print("\n".join(summary(known)))


if __name__ == "__main__":
    main()
