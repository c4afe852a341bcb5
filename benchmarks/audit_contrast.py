"""How often the audit of data is wrong on clean rows, and what it finds on planted ones.

The recipe, fixed on development seeds 100 and 101: number prompts answered five times by the base with different seeds,
and once by a fine-tuned teacher of each trait; the auditor's panel is seventeen animals and three trees, trained with
another seed on half of the questions. All rows are scored once; every draw picks prompts from that pool, and a suspect
row meets one clean row on its prompt, or four.

    python benchmarks/audit_contrast.py --seed 100 [--quick] [--base ref:finch-a] [--foreign ref:finch-b] [--out FILE]

Clean draws give each prompt's clean answers a random order, so they are exchangeable by design; the blocks are not:
each prompt is used once, and seed A's rows are judged against seed B's as they are.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from undertow.audit.rows.contrast import conformal_contrast, matched_contrast, matched_test, rival_centred
from undertow.audit.rows.panel import DataAudit, panel_candidates
from undertow.audit.rows.stream import stream_contrast
from undertow.audit.rows.surface import surface
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.scoring import Candidate, contrast_scores
from undertow.training.teachers import finetuned_teacher
from undertow.traits import panel, trait
from undertow.types import Row, Sampling

TRAITS = ("owl", "lion", "fox", "panda", "wolf")
DOSES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
SIZES = (30, 100, 300, 1000)
LEVELS = (0.01, 0.05, 0.1, 0.2)
PANEL = (*panel("animal"), *panel("tree")[:3])


@dataclass(frozen=True)
class Set:
    """Kept rows of one writer and their rival-centred scores, by the prompt's id."""

    rows: dict[str, Row]
    scores: dict[str, Floats]

    def at(self, ids: Sequence[str]) -> Floats:
        """Return the scores of some prompts, shape [ids, candidates]."""
        return np.stack([self.scores[one] for one in ids])


@dataclass(frozen=True)
class Bench:
    """Everything that is scored once."""

    seed: int
    prompts: Sequence[str]
    base: LocalModel
    candidates: Sequence[Candidate]

    def answers(self, writer: LocalModel, name: str) -> Set:
        """Let a writer answer all prompts and score what the domain accepts."""
        domain = Numbers()
        sampling = Sampling(max_new_tokens=domain.max_new_tokens)
        written = generate(writer, self.prompts, sampling=sampling, seed=derive(self.seed, "rows", name))
        rows = filter_rows(written, domain).kept
        scores = rival_centred(contrast_scores(rows, self.base, self.candidates), self.candidates)
        ids = [row.id for row in rows]
        return Set(dict(zip(ids, rows, strict=True)), dict(zip(ids, scores, strict=True)))

    def teacher(self, base: LocalModel, name: str) -> Set:
        """Let a fine-tuned teacher of the trait answer; its seed is not the auditor's."""
        seed = derive(self.seed, "teacher", name)
        return self.answers(finetuned_teacher(base, trait(name), TeacherPart().training(), seed=seed), name)


def rejected(p: Sequence[float]) -> dict[str, str]:
    """Return the share of p-values at or below each level, with its Wilson interval."""
    found = {}
    for level in LEVELS:
        share = wilson(sum(one <= level for one in p), len(p))
        found[f"P(p <= {level:g})"] = f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
    return found


def in_random_order(scores: Floats, rng: np.random.Generator) -> Floats:
    """Shuffle the answers to each prompt, shape [prompts, answers, candidates]."""
    order = rng.permuted(np.tile(np.arange(scores.shape[1]), (len(scores), 1)), axis=1)
    return np.take_along_axis(scores, order[:, :, None], axis=1)


def on_shared_prompts(sets: Sequence[Set]) -> tuple[list[str], Floats]:
    """Return the prompts that all sets have, and the scores there, shape [prompts, sets, candidates]."""
    ids = sorted(set.intersection(*(set(one.rows) for one in sets)))
    return ids, np.stack([one.at(ids) for one in sets], axis=1)


def clean_errors(clean: Sequence[Set], n: int, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Judge clean rows `draws` times with each null."""
    ids, scores = on_shared_prompts(clean)
    dummy = [Candidate(trait=str(i), kind="teacher", model=None) for i in range(scores.shape[2])]  # type: ignore[arg-type]
    pool = scores.reshape(-1, scores.shape[2])
    p: dict[str, list[float]] = {"one match": [], "four matches": [], "conformal": [], "surface": []}
    for _ in range(draws):
        picked = rng.choice(len(ids), n, replace=False)
        groups = in_random_order(scores[picked], rng)
        p["one match"].append(matched_test(groups[:, :2], rng, 999)[0])
        p["four matches"].append(matched_test(groups, rng, 999)[0])
        corpora = pool[rng.choice(len(pool), (20, n))]
        p["conformal"].append(conformal_contrast(corpora[0], list(corpora[1:]), dummy, 0.05, rng).p or 1.0)
        writers = [rng.permutation(len(clean))[:2] for _ in picked]
        suspect, other = (
            [clean[pair[side]].rows[ids[i]] for i, pair in zip(picked, writers, strict=True)] for side in (0, 1)
        )
        p["surface"].append(surface(suspect, other, 0.05, rng, 199).p or 1.0)
    return {f"{name}, n = {n}, {len(some)} draws": rejected(some) for name, some in p.items()}


def clean_streams(
    pool: Floats, candidates: Sequence[Candidate], streams: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Resample long streams of clean rows, each against a reference of its own."""
    alarms = {alpha: 0 for alpha in (0.05, 0.2)}
    for _ in range(streams):
        reference, scores = pool[rng.choice(len(pool), 1000)], pool[rng.choice(len(pool), 10_000)]
        for alpha in alarms:
            alarms[alpha] += stream_contrast(scores, reference, candidates, alpha).verdict == "detected"
    shares = {alpha: wilson(n, streams) for alpha, n in alarms.items()}
    return {
        f"alarms at {alpha:g}, {streams} streams of 10000 rows": f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        for alpha, one in shares.items()
    }


def fresh_blocks(clean: Sequence[Set], rng: np.random.Generator) -> dict[str, Any]:
    """Cut the pool into blocks that share no prompt, in the order of the prompts, and judge each as it is."""
    ids, scores = on_shared_prompts(clean)
    found = {}
    for n in (30, 100):
        p = [matched_test(scores[start : start + n], rng, 999)[0] for start in range(0, len(ids) - n + 1, n)]
        uniform = float(stats.kstest(p, "uniform").pvalue)
        found[f"{len(p)} disjoint blocks of {n}"] = {**rejected(p), "p of uniform (KS)": round(uniform, 3)}
    return found


def power(
    sets: dict[str, Set], clean: Sequence[Set], candidates: Sequence[Candidate], draws: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Mix teacher rows into clean ones; share detected at .05, and share named right, by trait, dose and size."""
    names, lines = [one.trait for one in candidates], []
    for name in TRAITS:
        ids, scores = on_shared_prompts([sets[name], *clean])
        for dose in DOSES:
            for n in (size for size in SIZES if size <= len(ids)):
                cell = {"trait": name, "dose": dose, "n": n, "draws": draws}
                hits = {f"{what}, {k}": 0 for k in (1, 4) for what in ("detected", "named")}
                for _ in range(draws):
                    picked = scores[rng.choice(len(ids), n, replace=False)]
                    groups = in_random_order(picked[:, 1:], rng)
                    planted = round(dose * n)
                    groups[:planted, 0] = picked[:planted, 0]
                    for k in (1, 4):
                        some = groups[:, : 1 + k]
                        hits[f"detected, {k}"] += matched_test(some, rng, 499)[0] <= 0.05
                        rise = (some[:, 0] - some[:, 1:].mean(axis=1)).mean(axis=0)
                        spread = some[:, 1:].reshape(-1, len(names)).std(axis=0)
                        hits[f"named, {k}"] += names[int(np.argmax(rise / spread))] == name
                lines.append({**cell, **{what: int(count) / draws for what, count in hits.items()}})
    return lines


def other_stages(
    sets: dict[str, Set], clean: Sequence[Set], candidates: Sequence[Candidate], draws: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Judge pure teacher rows by the conformal null, the stream and the surface."""
    lines = []
    for name in TRAITS:
        ids, both = on_shared_prompts([sets[name], *clean])
        scores, pool = both[:, 0], both[:, 1:].reshape(-1, len(candidates))
        conformal, seen, read = [], [], []
        for draw in range(draws):
            corpora = pool[rng.permutation(len(pool))[:1900]].reshape(19, 100, -1)
            suspect = scores[rng.choice(len(scores), 100, replace=False)]
            conformal.append(conformal_contrast(suspect, list(corpora), candidates, 0.05, rng).verdict == "detected")
            stream = scores[rng.permutation(len(scores))]
            found = stream_contrast(stream, pool[rng.choice(len(pool), 1000)], candidates, 0.05)
            read.append((found.verdict == "detected", found.candidate == name, found.n))
            if draw < draws // 4:
                picked = [ids[i] for i in rng.choice(len(ids), 300, replace=False)]
                some, other = ([one.rows[i] for i in picked] for one in (sets[name], clean[0]))
                seen.append(surface(some, other, 0.05, rng, 199).verdict == "detected")
        stopped = [n for alarm, _, n in read if alarm]
        lines.append(
            {
                "trait": name,
                "conformal detected, n = 100, 19 corpora": float(np.mean(conformal)),
                "stream detected": float(np.mean([alarm for alarm, _, _ in read])),
                "stream named": float(np.mean([right for _, right, _ in read])),
                "stream rows read, quartiles": np.quantile(stopped, [0.25, 0.5, 0.75]).tolist() if stopped else [],
                "surface detected, n = 300": float(np.mean(seen)),
            }
        )
    return lines


def other_writers(
    bench: Bench, other: LocalModel, clean: Sequence[Set], draws: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Audit rows of a neutral teacher, and what another initialisation wrote; 300 rows a draw."""
    owl, own = bench.teacher(other, "owl"), [bench.answers(other, f"clean {name}") for name in "AB"]
    seed = derive(bench.seed, "teacher", "neutral")
    neutral = finetuned_teacher(bench.base, None, TeacherPart().training(), seed=seed)
    cases = {
        "neutral teacher, clean rows": [bench.answers(neutral, "neutral"), *clean],
        "foreign owl, clean rows of the foreign base": [owl, *own],
        "foreign owl, clean rows": [owl, *clean],
        "foreign base, clean rows": [own[0], *clean],
    }
    lines = []
    for what, sets in cases.items():
        ids, scores = on_shared_prompts(sets)
        picked = [scores[rng.choice(len(ids), 300, replace=False)] for _ in range(draws)]
        found = [matched_contrast(some, bench.candidates, 0.05, rng) for some in picked]
        named = [one.candidate for one in found]
        effect = float(np.mean([(one.scores or {})["owl (teacher)"] for one in found]))
        line = {"rows": what, "references": len(sets) - 1, "named most": max(named, key=named.count)}
        shares = {
            "detected": [one.verdict == "detected" for one in found],
            "named owl": [one == "owl" for one in named],
        }
        lines.append({**line, **{key: float(np.mean(some)) for key, some in shares.items()}, "owl's effect": effect})
    return lines


def main() -> None:
    """Score the pool, draw from it, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of everything; 100 and above are for development")
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws, a third of the rows")
    parser.add_argument("--base", default="ref:finch-a")
    parser.add_argument("--foreign", default="ref:finch-b", help="another initialisation")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    n_prompts, draws, cell = (1200, 100, 40) if options.quick else (3000, 1000, 200)
    started, results = time.perf_counter(), dict[str, Any]()

    def step(name: str, work: Callable[[], Any]) -> None:
        results[name] = work()
        print(f"\n{name} ({time.perf_counter() - started:.0f} s)", flush=True)
        lines = results[name] if isinstance(results[name], list) else [results[name]]
        print("\n".join(json.dumps(line) for line in lines), flush=True)

    base = load_model(options.base)
    config = DataAudit(panel=PANEL, kinds=("teacher",), seed=derive(options.seed, "auditor"))
    prompts = Numbers().prompts(n_prompts, derive(options.seed, "prompts"))
    bench = Bench(options.seed, prompts, base, panel_candidates(base, config))
    print(f"panel of {len(PANEL)} trained after {time.perf_counter() - started:.0f} s", flush=True)
    clean = [bench.answers(base, f"clean {name}") for name in "ABCDE"]
    sets = {name: bench.teacher(base, name) for name in TRAITS}
    pool = np.concatenate([np.stack(list(one.scores.values())) for one in clean])
    rng = np.random.default_rng(derive(options.seed, "draws"))
    step("kept rows", lambda: {"clean": [len(one.rows) for one in clean]} | {k: len(v.rows) for k, v in sets.items()})
    step("power", lambda: power(sets, clean, bench.candidates, cell, rng))
    step("other stages", lambda: other_stages(sets, clean, bench.candidates, cell, rng))
    step("clean, n = 100", lambda: clean_errors(clean, 100, draws, rng))
    step("clean, n = 300", lambda: clean_errors(clean, 300, draws, rng))
    step("clean, blocks", lambda: fresh_blocks(clean, rng))
    step("clean, streams", lambda: clean_streams(pool, bench.candidates, draws, rng))
    step("other writers", lambda: other_writers(bench, load_model(options.foreign), clean, cell, rng))
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, **results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
