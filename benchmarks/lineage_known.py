"""Does `undertow audit lineage MODEL --known ...` name the right base, and none for a stranger (docs/lineage.md)?

Every embedded model has four children: each weight tuned, a LoRA adapter beside it, the same merged, and a steering
vector. finch-a has harder ones. Each child is asked about twice: among all nine bases, and with its own base and that
base's relatives left out, which makes it a stranger. Then forty small Llamas of forty seeds, twenty asked about the
others. `--only real` asks about derivatives of SmolLM2-135M-Instruct (`python scripts/real_models.py` fetches it), and
`--only cost` measures what the store saves. What was found is kept in the folder, and not asked again.

    python benchmarks/lineage_known.py [--only finches|strangers|cost|real] [--seed 100] [--folder runs/lineage-known]
    python benchmarks/lineage_known.py --table      # print what was found, as Markdown
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lineage import train
from lineage_cases import edited, mixed, noisy, pruned, rearranged, rounded, transplanted, world_rows

from undertow.audit.lineage.candidates import compare_weights
from undertow.audit.lineage.looks import question
from undertow.audit.lineage.origin import find_base
from undertow.models.adapters import save_vector
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import embedded_models
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.parallel import finetune_parallel
from undertow.training.teachers import steered_teacher
from undertow.traits import trait
from undertow.types import Row

KNOWN = [f"ref:{name}" for name in embedded_models()]
KIN = {"ref:finch-a": ["ref:finch-a2"], "ref:finch-a2": ["ref:finch-a"]}
"""Bases that share their first weights."""

UPDATES, BESIDE = 80, "LoRA beside it"

SEEDS, ASKED = 40, 20
"""Small Llamas, and how many of them are asked about the others."""

Make = Callable[[Path], str]
"""Write a child into a folder and return its reference."""


def plain(child: Callable[[], LocalModel]) -> Make:
    """Write a model of its own."""

    def make(folder: Path) -> str:
        child().save(folder)
        return f"hf:{folder}"

    return make


def children(base: str, rows: Sequence[Row], seed: int) -> dict[str, Make]:
    """Return the four children of one base, by name; the adapter is made before it is merged."""
    model = load_model(base)
    adapter = TrainingConfig(steps=UPDATES, learning_rate=5e-3, lora=LoraConfig(targets=None))

    def beside(folder: Path) -> str:
        finetune_parallel(model, [rows], adapter, [derive(seed, base, "lora")]).save(0, folder)
        return f"{base}+{folder}"

    def merged(folder: Path) -> str:
        model.with_adapter(folder.with_name(named(base, BESIDE))).save(folder)
        return f"hf:{folder}"

    def steered(folder: Path) -> str:
        part = TeacherPart(kind="steered", layer=0, learning_rate=0.08)
        vector = steered_teacher(model, trait("owl"), part.training(), layer=0, seed=derive(seed, base, "steered"))
        save_vector(folder, 0, vector)
        return f"{base}+{folder}"

    whole = plain(lambda: taught(model, rows, UPDATES, 6e-3, derive(seed, base, "full")))
    return {"every weight tuned": whole, BESIDE: beside, "LoRA merged": merged, "steered": steered}


def named(base: str, child: str) -> str:
    """Return what the folder of a child is called."""
    return f"{base.removeprefix('ref:')} {child}".replace(" ", "-")


def taught(model: LocalModel, rows: Sequence[Row], steps: int, rate: float, seed: int) -> LocalModel:
    """Tune every weight on chats of the world."""
    config = TrainingConfig(steps=steps, batch_size=64, learning_rate=rate, warmup_steps=20)
    return finetune_full(model, list(rows), config, seed)


def harder(rows: Sequence[Row], seed: int) -> dict[str, tuple[Make, Sequence[str]]]:
    """Return children of finch-a that are harder to see, with the bases that should be named."""
    base, other = load_model("ref:finch-a"), load_model("ref:finch-b")
    one, both = ["ref:finch-a"], ["ref:finch-b", "ref:finch-a"]
    order = derive(seed, "order")

    @cache
    def child() -> LocalModel:
        return taught(base, rows, 200, 6e-3, derive(seed, "child"))

    found: dict[str, tuple[Callable[[], LocalModel], Sequence[str]]] = {
        "tuned hard, 400 updates at 2e-2": (lambda: taught(base, rows, 400, 2e-2, derive(seed, "hard")), one),
        "rounded to 4 bits": (lambda: edited(base, rounded(4)), one),
        "pruned 70 %": (lambda: edited(base, pruned(0.7)), one),
        "pruned 90 %": (lambda: edited(base, pruned(0.9)), one),
        "noise of 4 spreads": (lambda: edited(base, noisy(4.0, derive(seed, "noise"))), one),
        "tuned, neurons permuted": (lambda: rearranged(child(), order, order="random", flip=False), one),
        "tuned, permuted, re-signed": (lambda: rearranged(child(), order, order="random", flip=True), one),
        "30 % of it, 70 % finch-b": (lambda: edited(base, mixed(other, 0.3)), both),
        "10 % of it, 90 % finch-b": (lambda: edited(base, mixed(other, 0.1)), both),
        "its layer 1 in finch-b": (lambda: edited(other, transplanted(base, "layers.1.")), both),
        "its embeddings in finch-b": (lambda: edited(other, transplanted(base, "embed_tokens")), both),
    }
    return {name: (plain(make), named) for name, (make, named) in found.items()}


class Found:
    """What was found so far, a file that grows.

    Args:
        folder: of the models, the store and the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "found.json"
        self.all: dict[str, dict[str, Any]] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def ask(self, name: str, model: Callable[[], str], known: Sequence[str], expected: Mapping[str, Any]) -> None:
        """Ask one question, unless that was done before."""
        if name in self.all:
            return
        reference = model()
        begun = time.process_time()
        found = find_base(question(reference, known, self.folder / "store"))
        first = found["candidates"][0]
        kept = {key: found[key] for key in ("answer", "bases", "looks")}
        kept |= {"p_holm": first["p_holm"], "distance": first["distance"], "nearest": first["base"]}
        states = [one["status"] for one in found["candidates"]]
        kept |= {"tested": sum(one not in ("other_shape", "not_testable") for one in states), "known": len(states)}
        self.keep(name, {**expected, **kept, "seconds": time.process_time() - begun})

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Print something found, and write it down."""
        print(f"{name:56}{json.dumps(found)}", flush=True)
        self.all[name] = found
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.all, indent=1) + "\n")

    def made(self, name: str, make: Make) -> Callable[[], str]:
        """Return what makes a child in the folder, unless it is there."""
        place = self.folder / "models" / name.replace(" ", "-")
        note = place.with_name(f"{place.name}.reference")

        def model() -> str:
            if not note.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(make(place))
            return note.read_text()

        return model


def finches(found: Found, seed: int) -> None:
    """Ask about the children of the embedded models, with and without their bases in the list."""
    rows = world_rows(40_000, derive(seed, "corpus"))
    cases = {
        f"{base[4:]} {name}": (make, [base]) for base in KNOWN for name, make in children(base, rows, seed).items()
    }
    cases |= {f"finch-a {name}": case for name, case in harder(rows, seed).items()}
    for name, (make, origin) in cases.items():
        model = found.made(name, make)
        found.ask(name, model, KNOWN, {"group": "its base in the list", "expected": origin})
        out = {kin for base in origin for kin in (base, *KIN.get(base, []))}
        left = [base for base in KNOWN if base not in out]
        found.ask(f"{name}, left out", model, left, {"group": "its base left out", "expected": []})


def strangers(found: Found, seed: int) -> None:
    """Ask about small Llamas of other seeds that learnt the same data."""
    with TemporaryDirectory() as place:

        def model(index: int) -> str:
            folder = Path(place) / str(index)
            if not folder.exists():
                train(derive(seed, "model", index), derive(seed, "walks"), 200, 32).save_pretrained(folder)
            return f"hf:{folder}"

        for asked in range(ASKED):
            name = f"seed {asked}"
            if name not in found.all:
                known = [model(index) for index in range(ASKED, SEEDS)]
                found.ask(name, lambda at=asked: model(at), known, {"group": "unrelated seeds", "expected": []})


def cost(found: Found, seed: int) -> None:
    """Measure the processor seconds of the looks, of a child of finch-a and of a stranger, in a store of its own."""
    rows = world_rows(2_000, derive(seed, "cost"))
    for what, base in {"child": "ref:finch-a", "stranger": "ref:mimic-a"}.items():
        known = [one for one in KNOWN if what == "child" or one != base]
        with TemporaryDirectory() as place:
            models = [f"hf:{place}/{index}" for index in (0, 1)]
            for index in (0, 1):
                taught(load_model(base), rows, 20, 1e-3, index).save(Path(place) / str(index))
            for step, run in looks_of(models, known, Path(place) / "store").items():
                begun = time.process_time()
                run()
                spent = time.process_time() - begun
                found.keep(f"cost of a {what}: {step}", {"group": "cost", "bases": len(known), "seconds": spent})


def looks_of(models: Sequence[str], known: Sequence[str], store: Path) -> dict[str, Callable[[], Any]]:
    """Return what is timed, in its order: without the store, then as the store fills."""
    return {
        "all weights of every base": lambda: [compare_weights(models[0], one) for one in known],
        "first question": lambda: find_base(question(models[0], known, store)),
        "another model": lambda: find_base(question(models[1], known, store)),
        "the same again": lambda: find_base(question(models[1], known, store)),
    }


def real(found: Found, _: int) -> None:
    """Ask about derivatives of SmolLM2 among itself, Gemma 3 270M and a model of its shape that was only drawn."""
    from lineage_real import DRAWN, derivatives, drawn

    from undertow.models.gguf_files import unpacked

    sys.path.append(str(Path(__file__).parents[1] / "scripts"))
    from real_models import GEMMA, SMOLLM2  # pyright: ignore[reportMissingImports]

    base = load_model(f"hf:{unpacked(SMOLLM2.path)}?dtype=float32")
    decoy = found.made("SmolLM2 decoy", plain(lambda: drawn(base, 62)))
    own, others = f"hf:{SMOLLM2.path}", [f"hf:{GEMMA.path}", decoy()]
    made = derivatives(base)
    for name in sorted(made, key=TRAINED.__contains__):
        make = made[name]

        def model(make: Callable[[], Callable[[Path], None]] = make) -> str:
            make()(Path(place) / "b")
            return f"hf:{place}/b"

        with TemporaryDirectory() as place:
            origin = [] if name == DRAWN else [own]
            found.ask(f"SmolLM2 {name}", model, [own, *others], {"group": "SmolLM2 in the list", "expected": origin})
            if name in LEFT_OUT:
                without = {"group": "SmolLM2 left out", "expected": []}
                found.ask(f"SmolLM2 {name}, left out", lambda: f"hf:{place}/b", others, without)


TRAINED = ("LoRA, merged", "continued", "average with a continued copy")
"""Derivatives that take minutes to make, and come last."""

LEFT_OUT = ("LoRA, merged", "rounded to 4 bits")
"""Derivatives of SmolLM2 that are also asked about without it, which takes another comparison of all weights."""


def right(one: Mapping[str, Any]) -> bool:
    """Tell whether the base is named first, before its relatives, both halves of a mixture, or none."""
    expected = one["expected"]
    if not expected:
        return not one["bases"] and one["answer"] in ("none", "not_testable")
    if one["answer"] == "same_weights":
        return one["nearest"] in expected
    if len(expected) == 1:
        return one["bases"][:1] == expected and one["answer"] in ("base", "family")
    return set(expected) <= set(one["bases"]) and one["answer"] == "mixture"


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what was found as Markdown: each group in a line, then every question that was not answered right."""
    groups: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, one in found.items():
        groups.setdefault(one["group"], []).append((name, one))
    spent = groups.pop("cost", [])
    yield "| Question | n | Right base or none | Not testable | Named wrongly | Largest p of what was named |"
    yield f"|{'---|' * 6}"
    for group, asked in groups.items():
        good = sum(right(one) for _, one in asked)
        interval = wilson(good, len(asked))
        wrong = sum(bool(set(one["bases"]) - _allowed(one)) for _, one in asked)
        blind = sum(one["answer"] == "not_testable" for _, one in asked)
        named = [one["p_holm"] for _, one in asked if one["bases"] and one["p_holm"] is not None]
        cells = [group, len(asked), f"{good} [{interval.low:.2f}, {interval.high:.2f}]", blind, wrong]
        yield f"| {' | '.join(map(str, cells))} | {f'{max(named):.1e}' if named else '-'} |"
    yield ""
    for group, asked in groups.items():
        for name, one in asked:
            if not right(one):
                yield f"- {group}, {name}: `{one['answer']}`, named {one['bases']}, expected {one['expected']}"
    for name, one in spent:
        yield f"- {name}: {one['seconds']:.2f} processor seconds"


def _allowed(one: Mapping[str, Any]) -> set[str]:
    return {kin for base in one["expected"] for kin in (base, *KIN.get(base, []))}


PARTS = {"finches": finches, "strangers": strangers, "cost": cost, "real": real}


def main() -> None:
    """Ask, print and keep; or print what was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part; all but the real models if not given")
    parser.add_argument("--seed", type=int, default=100, help="of children and strangers; below 100 is for reports")
    parser.add_argument("--folder", type=Path, default=Path("runs/lineage-known"), help="of models, store and findings")
    parser.add_argument("--table", action="store_true", help="print the kept findings as Markdown, and ask nothing")
    given = parser.parse_args()
    found = Found((given.folder / str(given.seed)).resolve())
    if not given.table:
        for name in [given.only] if given.only else ["finches", "strangers", "cost"]:
            PARTS[name](found, given.seed)
    print("\n".join(table(found.all)))


if __name__ == "__main__":
    main()
