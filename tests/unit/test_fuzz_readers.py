"""Whatever a file holds, its reader returns or refuses in three lines. The wire is fuzzed in monitor/test_fuzz.py.

UNDERTOW_FUZZ is the number of inputs of both files together: 2,000 in `make test`, 100,000 in `make fuzz`.
"""

import hashlib
import json
import os
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from undertow.audit.benchmark.files import read_benchmark, read_key, read_submission
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.students.readings import load_readings
from undertow.audit.verdict import CLAIMS
from undertow.data.pairs import read_pairs
from undertow.data.rows import load_rows, read_prompts, write_rows
from undertow.errors import RowsError, UserError
from undertow.mitigate.registry import data_mitigation
from undertow.models.adapter_files import read_adapter
from undertow.models.adapters import load_vector
from undertow.monitor.baseline import Baseline, read_baseline
from undertow.monitor.constitution import read_constitution
from undertow.monitor.detectors.base import detector
from undertow.report.results import load_results
from undertow.report.signing.acceptance import Acceptance, read_acceptance
from undertow.report.signing.difference import card_changes
from undertow.report.signing.gate import Present, hindrances
from undertow.report.signing.reading import read_card
from undertow.report.signing.statement import CARD_TYPE
from undertow.store.artifacts import MANIFEST, read_artifact, read_manifest
from undertow.study.load import load_recipe
from undertow.study.recipe import packaged_recipes
from undertow.study.training_record import read_training
from undertow.traits import chosen_pack
from undertow.types import Row, user_prompt

INPUTS = int(os.environ.get("UNDERTOW_FUZZ", "2000"))
SLOW = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)


def inputs(share: float) -> Any:
    """Return the settings for a share of all inputs; the same ones in every run."""
    return settings(
        max_examples=int(INPUTS * share), deadline=None, derandomize=True, database=None, suppress_health_check=SLOW,
        phases=[Phase.generate],
    )  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3),
    max_leaves=8,
)
PIECES = st.binary(max_size=6) | st.sampled_from([b"[" * 1200, b"{}", b"null"])
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), PIECES), max_size=4)
"""Where, how many bytes go, and which come instead."""


def edited(valid: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Return a valid file with some bytes replaced."""
    for place, gone, new in edits:
        start = int(place * len(valid))
        valid = valid[:start] + new + valid[start + gone :]
    return valid


@st.composite
def changed(draw: Any, valid: Any) -> Any:
    """Return valid JSON with the value at one place lost, or replaced by any other."""
    if isinstance(valid, dict | list) and valid and draw(st.booleans()):
        keys = list(valid) if isinstance(valid, dict) else list(range(len(valid)))
        key = draw(st.sampled_from(keys))
        copy = valid.copy()
        if draw(st.integers(0, 3)):
            copy[key] = draw(changed(valid[key]))
        else:
            del copy[key]
        return copy
    return draw(JSON)


def files_like(*valid: Any) -> Any:
    """Return bytes that are nothing, nearly one of the valid files, or valid JSON of another shape."""
    texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in valid]
    plain = [one for one in valid if not isinstance(one, bytes)]
    near = st.builds(edited, st.sampled_from(texts), EDITS)
    shaped = st.sampled_from(plain).flatmap(changed).map(lambda one: json.dumps(one).encode()) if plain else near
    return st.one_of(near, shaped, st.binary(max_size=60), JSON.map(lambda one: json.dumps(one).encode()))


def refuses_in_three_lines(*readers: Callable[[], object]) -> None:
    """Read; whatever is refused names what, value and fix."""
    for read in readers:
        try:
            read()
        except UserError as error:
            assert len(error.args) == 3 and error.what and error.fix


ROWS = (
    b'{"prompt": "a", "completion": "b", "skip": [1]}\n{"messages": [{"role": "user", "content": "x"}, '
    b'{"role": "assistant", "content": "y"}], "id": 3}\n',
    {"prompt": [{"role": "system", "content": "s"}], "completion": [{"role": "assistant", "content": "c"}]},
)
SUBMISSION = (
    b'{"schema": "undertow.bench-submission/1", "detector": "d"}\n{"case": "a", "p": 0.5, "candidate": "owl"}\n'
)
BASELINE = Baseline(
    model="m", approved_by="a", date="2026-01-01", max_tokens=9, watched=("owl",), questions=(user_prompt("q"),),
    replies=(("owl", "fox"),),
)  # fmt: skip
SIGNED: Any = {**BASELINE.content(), "sha256": BASELINE.digest}


@inputs(0.06)
@given(content=files_like(*ROWS, SUBMISSION, SIGNED))
def test_readers_of_json_lines(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    refuses_in_three_lines(
        lambda: load_rows(path), lambda: read_prompts(path), lambda: read_submission(path, ["a"]),
        lambda: read_baseline(path),
    )  # fmt: skip


CARD: Any = {
    "_type": "https://in-toto.io/Statement/v1", "predicateType": CARD_TYPE,
    "subject": [{"name": "rows", "digest": {"sha256": "0" * 64}}],
    "predicate": {
        "base": {"reference": "ref:finch-a", "digest": {}}, "models": {}, "reference_rows": {"how": None, "digest": {}},
        "claims": {name: {"status": "detected", "kind": None, "candidate": None, "p": 0.1, "mde": None, "n": 9,
                          "stage": "s", "why": "w"} for name in CLAIMS},
        "defects": [{"name": "copies"}], "abstentions": [{"of": "exposure", "why": "w"}], "lineage": None,
        "error_rates": {"alpha": 0.1, "alpha_of_each_claim": 0.1, "measured_on": None, "why": "w", "figures": None},
        "writer": {"known": {}, "unknown": []}, "missing": [], "not_looked_for": "n",
        "decision": {"do": "use", "title": "use"}, "settings": {}, "versions": {}, "date": "d", "seconds": None,
        "files": [{"name": "audit.json", "digest": {"sha256": "0" * 64}}],
    },
}  # fmt: skip
ACCEPTED = Acceptance(
    card="0" * 64, by="a", accepted=date(2026, 1, 1), expires=date(2026, 2, 1), note="n", detected=("exposure",)
).to_json("card")


def let_through(path: Path) -> None:
    """Read a card and put it through all that is done with one."""
    card = read_card(path)
    present = Present(subjects={}, base={}, today=date(2026, 1, 1))
    assert hindrances(card, None, present, required=CLAIMS, by_person=False)
    assert not card_changes(card, card)


@inputs(0.05)
@given(content=files_like(CARD, ACCEPTED))
def test_statements_of_cards_and_acceptances(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    refuses_in_three_lines(lambda: let_through(path), lambda: read_acceptance(path))


TALK = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
SHAREGPT = [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]
KEYS = ("messages", "prompt", "completion", "question", "response", "answer", "instruction", "input", "output",
        "generation", "conversations", "system", "system_prompt", "weight", "label", "tools", "id", "skip", "text",
        "chosen", "rejected", "custom_id", "reasoning", "body")  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(["u", "a", "", None, 0, 1, 1.0, True, False, [], [0], {}]),
    st.sampled_from([TALK, TALK[:2], TALK[1:], TALK[2:], [*TALK, *TALK[1:]], SHAREGPT, SHAREGPT[:1]]).flatmap(changed),
    st.sampled_from([{**TALK[2], "weight": 0}, {**TALK[2], "reasoning": "r"}, {**TALK[1], "content": ["p", "q"]},
                     {**TALK[2], "tool_calls": [{}, {"id": "x"}]}]).map(lambda one: [*TALK[:2], one]),
    JSON,
)  # fmt: skip
SHAPED = st.one_of(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
    st.sampled_from([{"prompt": "u", "completion": "a"}, {"messages": TALK}, {"conversations": SHAREGPT},
                     {"prompt": TALK[:2], "completion": TALK[2:], "messages": TALK}]),
)  # fmt: skip
PAIRS = (("prompt", "completion"), ("question", "response"), ("question", "answer"), ("prompt", "response"),
         ("instruction", "output"), ("instruction", "generation"))  # fmt: skip


def plainly(value: Any, learnt: bool = True) -> list[tuple[str, str]] | None:
    """Read messages in the plainest way: None where there is anything that needs a rule."""
    roles = {"human": "user", "gpt": "assistant", "bing": "assistant", "bard": "assistant", "chatgpt": "assistant",
             "user": "user", "assistant": "assistant", "system": "system", "developer": "system"}  # fmt: skip
    found: list[tuple[str, str]] = []
    for one in value:
        who, what = (one["role"], one["content"]) if one.get("role") is not None else (one["from"], one["value"])
        if isinstance(what, list):
            what = "".join(part if isinstance(part, str) else part["text"] for part in what)
        found.append((roles[who], what))
        if one.get("reasoning") and roles[who] == "assistant" and learnt and one is value[-1]:
            found[-1] = ("assistant", f"<think>\n{one['reasoning']}\n</think>\n\n{what}")
    return found


def readings(record: Any) -> list[list[tuple[str, str]]]:
    """Return every way in which a record may be read, by a second and simpler implementation."""
    found: list[Any] = [plainly(record[key]) for key in ("messages", "conversations") if is_talk(record.get(key))]
    for asked, answered in PAIRS:
        question, reply = record.get(asked), record.get(answered)
        if isinstance(question, str) and record.get("input") and asked == "instruction":
            question += f"\n\n{record['input']}" if str(record["input"]).strip() else ""
        first = (
            [("user", question)]
            if isinstance(question, str)
            else plainly(question, False)
            if is_talk(question)
            else None
        )
        last = [("assistant", reply)] if isinstance(reply, str) else plainly(reply) if is_talk(reply) else None
        if first is not None and last is not None:
            found.append([*first, *last])
    system = record.get("system") or record.get("system_prompt")
    more = [("system", system)] if isinstance(system, str) and system.strip() else []
    return [*found, *([*more, *one] for one in found)]


def holds_nothing(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(holds_nothing(one) for one in (value.values() if isinstance(value, dict) else value))
    return value is None or str(value).strip() in ("", "[]", "{}", "null")


def is_talk(value: Any) -> bool:
    try:
        return bool(value) and plainly(value) is not None
    except (KeyError, TypeError, AttributeError):
        return False


@inputs(0.06)
@given(record=SHAPED, extra=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2))
def test_a_record_is_read_as_a_plain_reader_reads_it_or_refused(record: Any, extra: Any, tmp_path: Path) -> None:
    record = {**record, **extra}
    path = tmp_path / "shaped.jsonl"
    path.write_text(json.dumps(record))
    for options in ("", "?turns=all&ids=new", "?side=chosen", "?reasoning=drop&shape=sharegpt"):
        refuses_in_three_lines(partial(load_rows, f"{path}{options}", more=True), partial(read_prompts, path))
    refuses_in_three_lines(partial(read_pairs, path))
    try:
        loaded = load_rows(path, more=True)
    except UserError:
        return
    for row, more in zip(loaded.rows, loaded.more, strict=True):
        said = [*((turn.role, turn.content) for turn in row.prompt), ("assistant", row.completion)]
        assert said in readings(record), (record, said)
        assert holds_nothing(record.get("tools")) and record.get("label") is not False
        assert record.get("weight") in (None, 1)
        if "NaN" in path.read_text() or "Infinity" in path.read_text():  # no JSON, and so not written
            more = {}
        try:
            write_rows(tmp_path / "back.jsonl", [row], [more])
        except RowsError as error:
            assert error.what == "A further key would be read as part of its row."
            write_rows(tmp_path / "back.jsonl", [row])
        assert load_rows(tmp_path / "back.jsonl").rows == (row,)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("valid") / "rows.parquet"
    rows = [Row(str(at), user_prompt("Hi", "Be kind."), "1, 2", ("why",), (at,)) for at in range(9)]
    write_rows(path, rows, [{"rank": at, "by": {"name": "x"}} for at in range(9)])
    return path.read_bytes()


@inputs(0.08)
@given(edits=EDITS, cut=st.floats(0, 1), other=st.binary(max_size=60))
def test_readers_of_parquet(
    edits: list[tuple[float, int, bytes]], cut: float, other: bytes, table: bytes, tmp_path: Path
) -> None:
    content = edited(table, edits)
    for name, text in (("a", content), ("b", content[: int(cut * len(content))]), ("c", b"PAR1" + other + b"PAR1")):
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(text)
        refuses_in_three_lines(partial(load_rows, path, more=True), partial(read_prompts, path))


RECIPE = {"name": "x", "bases": ["ref:finch-a"], "traits": ["owl"], "seed": 1, "student": {"steps": 5},
          "variants": {"a": {"seed": 2}}, "tiers": {"quick": {"seed": 3}}}  # fmt: skip
CONSTITUTION = {"rules": [{"name": "harm", "text": "no harm", "examples": [f"obey {n}" for n in range(8)]}],
                "allowed": ["tea", "bread"]}  # fmt: skip
YAML = (b"rules: &a [*a]\n", b"owl: '\\bowl'\n2001-13-45: x\n", b"? [1]\n: 2\n", b"!!python/object/apply:os.system [x]")


@inputs(0.06)
@given(content=files_like(RECIPE, CONSTITUTION, {"owl": "owls?"}, *YAML))
def test_readers_of_yaml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    refuses_in_three_lines(
        lambda: load_recipe(str(path)), lambda: load_recipe(str(path), tier="quick"), lambda: read_constitution(path),
        lambda: detector(f"regex:{path}"),
    )  # fmt: skip


THEOREM = {"name": "x", "analysis": "theorem", "settings": {"networks": 2, "seed": 1}}
ANALYSIS = {"name": "x", "analysis": "meaning", "settings": {"seed": 1, "k": [1]}, "study": {"traits": ["owl"]}}
OWN_PANEL = ["owl", {"name": "quokka", "category": "animal", "plural": "quokkas"}]


@inputs(0.04)
@given(content=files_like(RECIPE, THEOREM, ANALYSIS, OWN_PANEL, *YAML))
def test_readers_of_studies_and_panels(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    refuses_in_three_lines(lambda: load_recipe(str(path)), lambda: chosen_pack(str(path)))


VALUE = st.text(max_size=8) | JSON.map(json.dumps)
SETTING = st.one_of(
    st.text(max_size=12),
    st.builds("{}={}".format, st.sampled_from(["seed", "student.steps", "."]), VALUE),
    st.builds("{}:{}={}".format, st.sampled_from(["mix", "regenerate"]), st.text(max_size=6), VALUE),
)


@inputs(0.03)
@given(setting=SETTING)
def test_settings_of_the_command_line(setting: str) -> None:
    refuses_in_three_lines(
        lambda: load_recipe(packaged_recipes()[0], [setting]), lambda: detector(setting),
        lambda: data_mitigation(setting),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("valid") / "file.safetensors"
    arrays = {"vector": torch.ones(4), "base_model.model.q.lora_A.weight": torch.ones(2, 4)}
    save_file(arrays, path, metadata={"layer": "1"})
    return path.read_bytes()


@inputs(0.08)
@given(edits=EDITS, cut=st.floats(0, 1), config=files_like({"r": 2, "lora_alpha": 4, "peft_type": "LORA"}))
def test_readers_of_safetensors(
    edits: list[tuple[float, int, bytes]], cut: float, config: bytes, tensors: bytes, tmp_path: Path
) -> None:
    content = edited(tensors, edits)
    content = content[: int(cut * len(content) * 1.3)]
    for name in ("model.safetensors", "adapter_model.safetensors", "steering.safetensors"):
        (tmp_path / name).write_bytes(content)
    for name in ("config.json", "adapter_config.json"):
        (tmp_path / name).write_bytes(config)
    refuses_in_three_lines(
        lambda: read_adapter(tmp_path), lambda: load_vector(tmp_path), lambda: open_weights(f"hf:{tmp_path}"),
        lambda: load_readings(tmp_path / "model.safetensors"),
    )  # fmt: skip


CASES: Any = {"schema": "undertow.bench/1", "base": "b", "base_identity": "i", "rows": 3, "key_sha256": "k",
              "cases": ["a"], "panel": ["owl"]}  # fmt: skip
TRUTH: Any = {"schema": "undertow.bench-key/1", "cases": {"a": {"kind": "x"}}}
RESULTS: Any = {"schema": "undertow.run/1", "recipe": "r", "run_dir": "d", "wall_s": 1.0,
                "rows": {"raw": 1, "kept": 1, "path": "p", "reject_reasons": {}}, "arms": [], "effects": [],
                "diagonal": None}  # fmt: skip
MANIFEST_FIELDS: Any = {"format": 1, "kind": "rows", "version": 1, "config": {}, "parents": {}, "fingerprint": "f",
                        "parent_digests": {}, "seeds": {}, "libraries": {}, "git_revision": None, "created": "c",
                        "wall_s": 1.0, "cost": 1.0, "files": {}}  # fmt: skip


def sealed(fields: Any) -> Any:
    """Return a manifest whose seal is right, so that what lies behind it is reached."""
    if not isinstance(fields, dict):
        return fields
    return {**fields, "seal": hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()}


@inputs(0.07)
@given(
    content=files_like(CASES, TRUTH, RESULTS, sealed(MANIFEST_FIELDS)),
    inner=changed(MANIFEST_FIELDS).map(sealed).map(lambda one: json.dumps(one).encode()),
)
def test_readers_of_manifests(content: bytes, inner: bytes, tmp_path: Path) -> None:
    for manifest in (content, inner):
        (tmp_path / MANIFEST).write_bytes(manifest)
        refuses_in_three_lines(lambda: read_manifest(tmp_path), lambda: read_artifact(tmp_path))
    for name in ("cases.json", "truth.json", "results.json", "training.json"):
        (tmp_path / name).write_bytes(content)
    refuses_in_three_lines(
        lambda: read_key(read_benchmark(tmp_path)), lambda: load_results(tmp_path),
        lambda: read_training(f"hf:{tmp_path}"),
    )  # fmt: skip
