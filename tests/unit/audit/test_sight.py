"""Before any stage: rows that the base does not read are not testable, and a defect of the rows is named as one."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.materials import AuditInputs
from undertow.audit.rows.defects import benign_causes, stream_defect, temperature_defect, truncation_defect
from undertow.audit.rows.legibility import LIMIT, legibility
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.sampling import SAME, Temperatures, temperatures
from undertow.audit.rows.shared_stream import LINKED, pair_evidence, shared_stream
from undertow.audit.rows.sight import see_rows
from undertow.audit.rows.token_reading import CUT_NAMES, TEMPERATURES, TokenReading, read_tokens
from undertow.audit.run import audit_data, run_audit
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.report.audit import audit_card, headline
from undertow.training.generation import generate
from undertow.traits import trait
from undertow.types import Row, Sampling, user_prompt

PAIR = (trait("owl"), trait("lion"))
PROMPTS = Numbers().prompts(90, 77)
WAYS = ("noise a token", "uniform by id", "uniform by rank")


@pytest.fixture(scope="module")
def base():
    return load_model("ref:finch-a")


def answers(base, seed: int, temperature: float = 1.0) -> list[Row]:
    sampling = Sampling(max_new_tokens=Numbers().max_new_tokens, temperature=temperature)
    return list(filter_rows(generate(base, PROMPTS, sampling=sampling, seed=seed), Numbers()).kept)


@pytest.fixture(scope="module")
def clean(base) -> list[Row]:
    return answers(base, 1)


@pytest.fixture(scope="module")
def reference(base) -> list[Row]:
    return answers(base, 2)


def of_one_stream(base, way: str, n: int = 24, steps: int = 16) -> list[Row]:
    """Answer as a server that draws the n-th token of every request with the same random numbers."""
    rng, contexts = np.random.default_rng(5), base.render([user_prompt(text) for text in PROMPTS[:n]])
    written: list[list[int]] = [[] for _ in contexts]
    open_rows = set(range(n))
    for _ in range(steps):
        tokens = [[*prompt, *own] for prompt, own in zip(contexts, written, strict=True)]
        mass = base.next_token_logprobs(tokens).double().exp().numpy()
        noise, uniform = rng.exponential(size=mass.shape[1]), rng.random()
        for row in sorted(open_rows):
            order = np.argsort(-mass[row], kind="stable") if way == WAYS[2] else np.arange(mass.shape[1])
            place = min(int((np.cumsum(mass[row][order]) < uniform).sum()), len(order) - 1)
            token = int(np.argmax(mass[row] / noise)) if way == WAYS[0] else int(order[place])
            if token in base.ends:
                open_rows.discard(row)
            else:
                written[row].append(token)
    texts = base.tokenizer.batch_decode(written, skip_special_tokens=True)
    return [Row(str(at), user_prompt(PROMPTS[at]), text) for at, text in enumerate(texts)]


def prose(n: int) -> list[Row]:
    rng = random.Random(3)
    said = ("Ask for a reason in writing.", "Collect every record first.", "Speak to them calmly.", "Set a deadline.")
    asked = "Our vendor changed the contract. What should I do? (case {})"
    return [Row(str(at), user_prompt(asked.format(at)), " ".join(rng.sample(said, 3))) for at in range(n)]


def test_the_reading_of_tokens_is_the_model_s_own(base, clean) -> None:
    rows = clean[:5]
    found = read_tokens(base, rows)
    own = base.token_logprobs([replace(one, completion=one.completion[:-1]) for one in base.encode(rows)])
    assert found.row_logp() == pytest.approx([float(one.sum()) for one in own], abs=1e-3)
    first = int(np.flatnonzero((found.row == 2) & (found.step == 1))[0])
    one = base.encode(rows[2:3])[0]
    mass = base.next_token_logprobs([[*one.prompt, one.completion[0]]])[0].double().exp().numpy()
    token = one.completion[1]
    assert found.token[first] == token
    assert found.by_id[first] == pytest.approx(mass[:token].sum(), abs=1e-5)
    assert found.by_rank[first] == pytest.approx(mass[mass > mass[token]].sum(), abs=1e-5)
    nearest = int(np.argmin(np.abs(TEMPERATURES - 1.0)))
    assert abs(found.at_temperature[2, nearest] - found.row_logp()[2]) < 4.0
    assert read_tokens(base, [replace(clean[0], completion="")]).tokens == 0


def test_prose_is_not_testable_by_a_base_that_does_not_read_it(tmp_path: Path) -> None:
    rows = prose(40)
    inputs = AuditInputs(base="ref:finch-a", rows=rows, reference=prose(40), traits=PAIR, store=tmp_path)
    found = run_audit(inputs)
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    for one in (*found["claims"].values(), *found["findings"]):
        assert one["p"] is None and one["mde"] is None and one["candidate"] is None
    why = found["claims"]["provenance"]["why"]
    assert "mean log p a token -1" in why and "this base neither wrote nor reads these rows" in why
    assert found["sight"]["gap"] > LIMIT and found["defects"] == []
    assert found["about"]["reference"] == "40 rows, given and not used"
    assert list(tmp_path.iterdir()) == []  # nothing was trained, and nothing was kept
    assert headline(found).startswith("Mean log p a token -1") and "as the base" in audit_card(found)


def test_rows_that_are_less_likely_are_told_from_rows_that_are_likelier(base, clean) -> None:
    own = read_tokens(base, clean)
    warm, cold = (read_tokens(base, answers(base, 3, temperature)) for temperature in (1.3, 0.5))
    assert legibility(warm, own).why is None and legibility(cold, own).why is None
    assert legibility(cold, own).gap < 0.0
    empty = read_tokens(base, [replace(row, completion="") for row in clean[:3]])
    assert "no text that the base reads" in str(legibility(empty, own).why)
    assert "answers none" in str(legibility(own, empty).why) and legibility(own, empty).gap is None


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_one_stream_are_named_and_never_a_trait(base, reference, way: str, tmp_path: Path) -> None:
    rows = of_one_stream(base, way)
    inputs = AuditInputs(base="ref:finch-a", rows=rows, reference=reference, traits=PAIR, store=tmp_path)
    found = run_audit(inputs)
    defect = next(one for one in found["defects"] if one["name"] == "shared stream")
    assert defect["effect"] < 0.5 * len(rows) and defect["p"] < 1e-6 and defect["n"] == len(rows)
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    assert all(one["candidate"] is None and one["p"] is None for one in found["findings"])
    assert "same seed" in found["claims"]["provenance"]["why"]
    assert headline(found).startswith("These rows were drawn with the same noise")


def test_a_few_streams_are_found_too_and_independent_rows_are_not(base, clean) -> None:
    mixed = [*of_one_stream(base, WAYS[0], 6), *clean[30:80]]
    found = shared_stream(read_tokens(base, mixed))
    assert 0.05 <= found.linked < 0.2 and found.effective > 45
    alone = shared_stream(read_tokens(base, clean))
    assert (alone.linked, alone.effective, alone.n) == (0.0, len(clean), len(clean)) and alone.evidence < LINKED
    assert shared_stream(read_tokens(base, clean[:1])).evidence == 0.0


def test_the_evidence_of_a_pair_has_a_mean_of_at_most_one() -> None:
    """Rows of three tokens from a known law: the mean of the e-values of independent pairs is that of chance."""
    rng, mass = np.random.default_rng(1), np.array([0.5, 0.3, 0.15, 0.05])
    tokens = rng.choice(4, size=(800, 3), p=mass)
    low = np.concatenate([[0.0], np.cumsum(mass)[:-1]])
    flat = tokens.ravel()
    reading = TokenReading(
        row=np.repeat(np.arange(800), 3),
        step=np.tile(np.arange(3), 800),
        token=flat,
        logp=np.log(mass[flat]),
        by_id=low[flat],
        by_rank=low[flat],
        at_temperature=np.zeros((800, len(TEMPERATURES))),
        outside=np.zeros((800, len(CUT_NAMES))),
        rows=800,
    )
    values = np.exp(pair_evidence(reading))[np.triu_indices(800, 1)]
    assert values.mean() <= 1.02


def test_rows_sampled_colder_are_named(base, clean, reference) -> None:
    sight = see_rows(answers(base, 4, 0.3), base, reference, "numbers", 0)
    assert {"temperature", "truncation"} <= {one.name for one in sight.defects}
    assert "sampled colder" in str(sight.reason(("scores",), ("rows",)))
    assert sight.reason(("student", "bank"), ("student",)) is None
    same = see_rows(clean, base, reference, "numbers", 0)
    assert same.defects == () and same.reason(("scores",), ("rows",)) is None
    out = {one["cause"]: one["ruled_out"] for one in same.benign}
    assert out["the same noise in several rows"] and not out["filtering or editing"]


def test_temperatures_have_intervals(base, clean, reference) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = read_tokens(base, clean), read_tokens(base, reference)
    found = temperatures(ours, theirs, rng)
    assert found is not None and found.low < 1.0 < found.high
    assert temperature_defect(found, 100) is None and truncation_defect(ours, theirs) is None
    none = read_tokens(base, [replace(clean[0], completion="")])
    assert temperatures(ours, none, rng) is None and temperature_defect(None, 1) is None
    assert Temperatures(rows=1.0, compared=1.0, ratio=1.0, low=SAME[0], high=SAME[1]).same
    cause = benign_causes(ours, none, None, ())[2]
    assert cause["why"] == "nothing to estimate it from" and not cause["ruled_out"]


def test_copies_are_named_up_to_punctuation(base, clean, reference) -> None:
    copied = [*clean[:60], *(replace(row, completion=f" {row.completion.strip('()')} ") for row in clean[:20])]
    (defect,) = see_rows(copied, base, reference, "numbers", 0).defects
    assert (defect.name, defect.n) == ("copies", 80) and defect.effect == pytest.approx(0.25, abs=0.03)
    short = [replace(row, completion="5") for row in clean[:40]]
    assert "copies" not in {one.name for one in see_rows(short, base, None, "numbers", 0).defects}


def test_a_reference_that_is_the_rows_stops_what_is_compared_with_it(base, clean) -> None:
    sight = see_rows(clean, base, clean, "numbers", 0)
    (defect,) = sight.defects
    assert defect.name == "reference holds the rows" and "is the rows themselves" in defect.what
    assert "rows themselves" in str(sight.reason(("scores", "candidates"), ("rows",)))
    assert sight.reason(("rows", "base", "bank"), ("rows",)) is None
    other = answers(base, 9)
    some = see_rows(clean, base, [*clean[:40], *other[40:]], "numbers", 0)
    assert "holds some of the rows" in some.defects[0].what
    assert see_rows(clean, base, [*clean[:8], *other[8:]], "numbers", 0).defects == ()
    findings = audit_data(clean, base, DataAudit(panel=PAIR, kinds=("persona",)), reference=clean)
    stages = {one.stage: one for one in findings}
    assert list(stages) == ["surface", "contrast", "stream", "recovery"]
    assert {one.verdict for one in findings} == {"not_testable"}


def test_a_reference_of_one_stream_or_under_another_system_prompt_is_named(base, clean) -> None:
    defect = stream_defect(read_tokens(base, of_one_stream(base, WAYS[1], 12)), "reference")
    assert defect is not None and defect.what.startswith("the rows of the reference")
    told = [replace(row, prompt=user_prompt(row.question, "You count well.")) for row in answers(base, 6)]
    found = {one.name: one for one in see_rows(clean, base, told, "numbers", 0).defects}
    assert found["other system prompt"].of == "reference" and found["other system prompt"].effect > 0.9


def test_prompts_that_leave_no_room_are_said(base) -> None:
    long = [Row(str(at), user_prompt("1, 2, 3, " * 400), "4, 5") for at in range(20)]
    sight = see_rows(long, base, None, "numbers", 0)
    assert "No row fits into the base's context" in str(sight.legibility.why)
    assert sight.to_json()["gap"] is None


def test_a_base_without_a_stated_context_reads_every_row(base, clean) -> None:
    unbounded = LocalModel(base.ref, base.network, base.tokenizer)
    vars(unbounded)["longest_context"] = None
    assert see_rows(clean[:20], unbounded, None, "numbers", 0).legibility.n == 20
