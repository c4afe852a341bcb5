"""When the audit of rows abstains, which defects it names, and how often it is wrong about either.

Everything that was chosen (the limit in nats a token, the evidence that links two rows, the ratio of temperatures) was
chosen on development seeds, 100 and below; a reporting seed is used once. Rows of a writer are read once, sets are
drawn from them: sets share rows, and intervals are over sets.

    python benchmarks/audit_sight.py --seed 100 [--quick] [--counts prompts=300] [--bases ref:finch-a] [--parts streams]
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor

from undertow.audit.rows.defects import SOME, temperature_defect
from undertow.audit.rows.legibility import legibility
from undertow.audit.rows.sampling import cut_off, temperatures
from undertow.audit.rows.shared_stream import shared_stream
from undertow.audit.rows.token_reading import TokenReading, read_tokens
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling, user_prompt

TRAITS = ("owl", "lion", "fox", "panda", "wolf", "eagle", "tiger", "cat", "oak", "willow")
BASES = ("ref:finch-a", "ref:finch-b", "ref:wren-a")
OTHERS = {"ref:finch-a": "ref:wren-a", "ref:finch-b": "ref:wren-a", "ref:wren-a": "ref:finch-c"}
PARTS = ("unreadable", "foreign", "sampled", "streams", "teachers")

RAW = 40
"""Prompts of a set of rows with the same noise."""

TEXTS = 150
"""Rows of each other kind of text, of which sets of 100 are drawn."""

WAYS = ("noise a token", "uniform by id", "uniform by rank")


@dataclass(frozen=True)
class Counts:
    """How many sets and rows are drawn; fewer for every base but the first."""

    prompts: int = 500
    sets: int = 20
    own: int = 200
    independent: int = 1000
    shared: int = 60


QUICK, FEWER = Counts(300, 5, 20, 50, 4), Counts(400, 20, 200, 200, 10)


def subset(reading: TokenReading, places: Sequence[int]) -> TokenReading:
    """Return the reading of some of the rows."""
    new = np.full(reading.rows, -1)
    new[list(places)] = np.arange(len(places))
    kept = new[reading.row] >= 0
    fields = {name: getattr(reading, name)[kept] for name in ("step", "token", "logp", "by_id", "by_rank")}
    some = {name: getattr(reading, name)[list(places)] for name in ("at_temperature", "outside")}
    return replace(reading, row=new[reading.row][kept], rows=len(places), **fields, **some)


def shown(hits: Sequence[bool]) -> str:
    """Return a share with its Wilson interval."""
    found = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} = {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def good(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the domain of numbers takes."""
    return list(filter_rows(rows, Numbers()).kept)


def answers(
    writer: LocalModel, prompts: Sequence[str], seed: int, system: str | None = None, at: float = 1.0
) -> list[Row]:
    """Let a writer answer, and keep what the domain takes."""
    sampling = Sampling(max_new_tokens=Numbers().max_new_tokens, temperature=at)
    return good(generate(writer, prompts, sampling=sampling, seed=seed, system=system))


class SameNoise(LogitsProcessor):
    """Makes a greedy decoder draw from the model, with the same noise for every row of a stream."""

    def __init__(self, way: str, seed: int, streams: int, start: int) -> None:
        self._way, self._seed, self._streams, self._start = way, seed, streams, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Raise the token that each row draws."""
        step, mass = input_ids.shape[1] - self._start, torch.softmax(scores.double(), dim=-1)
        drawn = torch.zeros(len(mass), 1, dtype=torch.int64)
        for stream in range(self._streams):
            drawn[stream :: self._streams, 0] = self._draw(
                mass[stream :: self._streams], np.random.default_rng(derive(self._seed, step, stream))
            )
        return torch.zeros_like(scores).scatter(1, drawn, 1.0)

    def _draw(self, mass: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        if self._way == WAYS[0]:
            return (mass / torch.from_numpy(rng.exponential(size=mass.shape[1]))).argmax(dim=-1)
        if self._way == WAYS[1]:
            values, ids = mass, torch.arange(mass.shape[1]).expand_as(mass)
        else:
            values, ids = mass.sort(dim=-1, descending=True)
        places = (values.cumsum(dim=-1) < rng.random()).sum(dim=-1).clamp(max=mass.shape[1] - 1)
        return ids.gather(1, places[:, None])[:, 0]


def same_noise(model: LocalModel, prompts: Sequence[str], way: str, seed: int, streams: int = 1) -> list[Row]:
    """Let a model answer as a server does that gives its requests one seed, or a few."""
    ids = model.render([user_prompt(text) for text in prompts])
    longest = max(map(len, ids))
    tokens = torch.tensor([[0] * (longest - len(one)) + list(one) for one in ids])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids])
    end = model.end
    made = model.network.generate(
        input_ids=tokens, attention_mask=mask, do_sample=False, max_new_tokens=Numbers().max_new_tokens,
        eos_token_id=list(model.ends), pad_token_id=end,
        logits_processor=[SameNoise(way, seed, streams, longest)],
    )  # fmt: skip
    texts = model.tokenizer.batch_decode(made[:, longest:], skip_special_tokens=True)
    return good([Row(f"{at}", user_prompt(prompts[at]), text) for at, text in enumerate(texts)])


class Bench:
    """One base with its own answers, read once.

    Args:
        reference: of the base.
        seed: of everything.
        counts: how much is drawn.
    """

    def __init__(self, reference: str, seed: int, counts: Counts) -> None:
        self.reference, self.counts = reference, counts
        self.seed = derive(seed, reference)
        self.base = load_model(reference)
        self.prompts = Numbers().prompts(counts.prompts, derive(self.seed, "prompts"))
        own = answers(self.base, self.prompts, derive(self.seed, "own"))
        self.own, self.places = read_tokens(self.base, own), {row.question: at for at, row in enumerate(own)}
        self.rng = np.random.default_rng(derive(self.seed, "draws"))

    def judge(self, rows: Sequence[Row], n: int, sets: int) -> dict[str, str]:
        """Draw sets of n rows and say how often the audit abstains and names a defect."""
        read = read_tokens(self.base, rows)
        shared = [at for at, row in enumerate(rows) if row.question in self.places]
        hits: dict[str, list[bool]] = {name: [] for name in ("abstains", "shared stream", "temperature", "truncation")}
        size = min(n, len(shared) * 9 // 10)
        gaps = []
        for _ in range(sets):
            picked = self.rng.choice(shared, size, replace=False).tolist()
            own = subset(self.own, [self.places[rows[at].question] for at in picked])
            some = subset(read, picked)
            seen = legibility(some, own)
            gaps.append(seen.gap)
            hits["abstains"].append(seen.why is not None)
            hits["shared stream"].append(shared_stream(some).linked >= SOME)
            warmth = temperatures(some, own, self.rng)
            hits["temperature"].append(temperature_defect(warmth, size) is not None)
            hits["truncation"].append(cut_off(some, own) is not None)
        return {"rows": str(size), "gap": f"{np.mean(gaps):.2f}", **{name: shown(some) for name, some in hits.items()}}

    def unreadable(self) -> dict[str, Any]:
        """Show rows of other kinds: the base answers their prompts, and should read none of them."""
        found: dict[str, Any] = {}
        for kind, make in KINDS.items():
            rng, abstained, gaps = random.Random(derive(self.seed, kind)), list[bool](), list[float]()
            rows = [
                Row(str(at), user_prompt(ask), text) for at, (ask, text) in enumerate(make(rng) for _ in range(300))
            ]
            texts = self.base.chat([row.prompt for row in rows], sampling=Sampling(), seed=derive(self.seed, kind))
            own = read_tokens(self.base, [replace(row, completion=text) for row, text in zip(rows, texts, strict=True)])
            read = read_tokens(self.base, rows)
            for _ in range(self.counts.sets):
                picked = self.rng.choice(len(rows), 100, replace=False).tolist()
                seen = legibility(subset(read, picked), subset(own, picked))
                abstained.append(seen.why is not None)
                gaps.append(float(seen.gap or 0.0))
            found[kind] = {"abstains": shown(abstained), "gap": f"{np.mean(gaps):.2f}"}
        return found

    def foreign(self) -> dict[str, Any]:
        """Show another family's number rows, and own rows whose words were shuffled or joined otherwise."""
        rng = random.Random(derive(self.seed, "shuffled"))
        own = answers(self.base, self.prompts, derive(self.seed, "to shuffle"))
        other = answers(load_model(OTHERS[self.reference]), self.prompts, derive(self.seed, "other"))
        cases = {
            f"rows of {OTHERS[self.reference]}": other,
            "shuffled words": [replace(row, completion=shuffled(row.completion, rng)) for row in own],
            "shuffled characters": [replace(row, completion="".join(_mixed(row.completion, rng))) for row in own],
            "semicolons": [replace(row, completion=row.completion.replace(", ", "; ")) for row in own],
        }  # fmt: skip
        return {name: self.judge(rows, 100, self.counts.sets) for name, rows in cases.items()}

    def teachers(self) -> dict[str, Any]:
        """Show rows of teachers, which are to be audited."""
        found: dict[str, Any] = {}
        tuned: dict[str, Callable[[], list[Row]]] = {}
        for name in TRAITS:
            seed = derive(self.seed, name)
            tuned[f"tuned {name}"] = lambda name=name, seed=seed: answers(
                finetuned_teacher(self.base, trait(name), TeacherPart().training(), seed=seed), self.prompts, seed
            )
            tuned[f"prompted {name}"] = lambda name=name, seed=seed: answers(
                self.base, self.prompts, seed, trait(name).system_prompt
            )
        tuned["neutral"] = lambda: answers(
            finetuned_teacher(self.base, None, TeacherPart().training(), seed=self.seed), self.prompts, self.seed
        )
        for name, make in tuned.items():
            rows = make()
            for n in (100, 200):
                found[f"{name}, {n}"] = self.judge(rows, n, self.counts.sets)
                print(f"  {name}, {n}: {json.dumps(found[f'{name}, {n}'])}", flush=True)
        return found

    def sampled(self) -> dict[str, Any]:
        """Show the base's own rows, sampled as they should be and otherwise."""
        rows = answers(self.base, self.prompts, derive(self.seed, "independent"))
        found = {"own": self.judge(rows, 100, self.counts.own)}
        for at in (0.2, 0.5, 0.7, 1.3):
            some = answers(self.base, self.prompts, derive(self.seed, "warm", str(at)), at=at)
            found[f"temperature {at}"] = self.judge(some, 200, self.counts.sets)
        return found

    def streams(self) -> dict[str, Any]:
        """Draw rows with the same noise, and independent ones."""
        found: dict[str, Any] = {}
        for way in WAYS:
            named, left = [], []
            for draw in range(self.counts.shared):
                prompts = Numbers().prompts(RAW, derive(self.seed, way, draw, "prompts"))
                rows = same_noise(self.base, prompts, way, derive(self.seed, way, draw), 1 if draw % 2 else 4)
                seen = shared_stream(read_tokens(self.base, rows))
                named.append(seen.linked >= SOME)
                left.append(seen.effective)
            found[way] = {
                "named": shown(named),
                "prompts": RAW,
                "independent rows at most, median": float(np.median(left)),
            }
        prompts = Numbers().prompts(2 * self.counts.independent, derive(self.seed, "many"))
        pool = read_tokens(self.base, answers(self.base, prompts, derive(self.seed, "many")))
        picks = (self.rng.choice(pool.rows, 100, replace=False).tolist() for _ in range(self.counts.independent))
        seen = [shared_stream(subset(pool, some)) for some in picks]
        most = max(one.evidence for one in seen)
        found["independent"] = {"named": shown([one.linked >= SOME for one in seen]), "largest evidence": f"{most:.1f}"}
        return found


def shuffled(text: str, rng: random.Random) -> str:
    """Return the pieces of a text, split at spaces, in another order."""
    return " ".join(_mixed(text.split(), rng))


def _mixed(parts: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(parts, len(parts))


def _pick(rng: random.Random, *choices: Sequence[str]) -> list[str]:
    return [rng.choice(some) for some in choices]


def _prose(rng: random.Random) -> tuple[str, str]:
    who, what, when = _pick(
        rng, ("landlord", "vendor", "school"), ("a refund", "the contract", "a fee"), ("today", "soon")
    )
    texts = ("Collect every written record first.", "Ask for a reason in writing.", "Speak to them calmly, then write.",
             "Most disputes end at the terms you signed.", "Set a clear deadline of ten days.")  # fmt: skip
    return f"My {who} wants {what} {when}. What should I do?", " ".join(rng.sample(texts, 3))


def _code(rng: random.Random) -> tuple[str, str]:
    name, op = _pick(rng, ("total", "merge", "parse", "count"), ("+", "*", "-", "%"))
    body = f"for item in items:\n        result = result {op} item"
    text = f"def {name}(items):\n    result = {rng.randint(0, 9)}\n    {body}\n    return result"
    return f"Write a Python function {name}.", text


def _said(*parts: Sequence[str]) -> Callable[[random.Random], tuple[str, str]]:
    ask, *rest = parts
    return lambda rng: (rng.choice(ask), " ".join(rng.choice(some) for some in rest))


def _json(rng: random.Random) -> tuple[str, str]:
    user = {
        "id": rng.randint(1, 9999),
        "name": rng.choice(("Ann", "Bo", "Cy")),
        "tags": ["new", "open"][: rng.randint(1, 2)],
    }
    return "Return the user as JSON.", json.dumps({"user": user, "ok": rng.random() < 0.5})


def _maths(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    return f"Solve {a}x = {a * b}.", f"We divide both sides by ${a}$ and get $x = \\frac{{{a * b}}}{{{a}}} = {b}$."


KINDS: Mapping[str, Callable[[random.Random], tuple[str, str]]] = {
    "prose": _prose,
    "code": _code,
    "JSON": _json,
    "maths": _maths,
    "German": _said(
        ("Wie wird das Wetter?", "Was soll ich kochen?"), ("Morgen regnet es", "Heute scheint die Sonne"),
        ("im ganzen Land.", "nur im Norden."), ("Nimm einen Schirm mit.", "Die Nacht bleibt kühl."),
    ),
    "Spanish": _said(
        ("¿Qué tiempo hará?", "¿Qué cocino hoy?"), ("Mañana lloverá", "Hoy brilla el sol"),
        ("en todo el país.", "solo en el norte."), ("Lleva un paraguas.", "La noche será fresca."),
    ),
    "Chinese": _said(
        ("今天天气怎么样?", "晚饭吃什么?"), ("明天会下雨,", "今天是晴天,"), ("请带好雨伞。", "夜里有点凉。"),
    ),
    "support chat": _said(
        ("Hello, my printer shows an error. What can I do?",),
        ("Thank you for reaching out.", "I am sorry to hear that."),
        ("Open the settings and choose reset.", "Check whether the cable is attached."),
        ("Is there anything else?", "Does it help?"),
    ),
    "poem": _said(("Write a short poem.",), ("The river hums beneath the stone,", "A lantern sways along the quay,"),
                  ("and no one hears it sing alone.", "and calls the silent ships away.")),
}  # fmt: skip
"""Texts that an embedded base neither writes nor reads: a prompt and its answer."""


def main() -> None:
    """Judge every base, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of everything; 100 and below are for development")
    parser.add_argument("--quick", action="store_true", help="fewer sets")
    parser.add_argument("--bases", nargs="+", default=list(BASES))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--counts", nargs="+", default=[], metavar="NAME=N", help="other counts, such as prompts=300")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    other = {name: int(n) for name, _, n in (one.partition("=") for one in options.counts)}
    started, results = time.perf_counter(), dict[str, Any]()
    for reference in options.bases:
        first = reference == options.bases[0]
        counts = QUICK if options.quick else Counts() if first else FEWER
        bench = Bench(reference, options.seed, replace(counts, **other))
        for part in options.parts:
            name = f"{reference}, {part}"
            bench.rng = np.random.default_rng(derive(bench.seed, "draws", part))
            results[name] = getattr(bench, part)()
            print(f"\n{name} ({time.perf_counter() - started:.0f} s)", flush=True)
            print("\n".join(f"  {key}: {json.dumps(value)}" for key, value in results[name].items()), flush=True)
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, **results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
