"""A card from audit to release as a user types it: accepted, signed, compared, and let through the gate or not."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from undertow.audit.finding import Finding, not_testable
from undertow.audit.verdict import Plan, audit_json
from undertow.cli import audits
from undertow.cli.main import main
from undertow.models.references import identity
from undertow.report.audit import write_audit
from undertow.report.signing.acceptance import Acceptance, acceptance_path
from undertow.report.signing.reading import read_card
from undertow.report.signing.statement import statement_bytes

BASE = "ref:finch-a"
PAGE = (Path(__file__).parents[3] / "docs" / "signing.md").read_text(encoding="utf-8")
TODAY = datetime.now(UTC).date()
DEFECT = {"name": "copies", "of": "rows", "what": "one answer on all", "cause": "one seed", "fix": "Draw again."}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Continue: 1.", "completion": "2"}\n')
    return path


@pytest.fixture
def make_card(rows: Path, tmp_path: Path):
    """Return a function that writes the card of an audit of the rows, exposure as asked for, and returns its folder."""

    def make(exposure: str = "not_detected", *, defects=(), name: str = "audit", base: str = BASE, **more) -> Path:
        plain = {"statistic": "score", "effect": 1.0, "null": "clean rows", "n": 20}
        found = [
            Finding(stage="contrast", claim="provenance", p=0.5, verdict="not_detected", **plain),
            Finding(stage="panel margins", claim="expression", p=0.5, verdict="not_detected", **plain),
        ]
        if exposure == "not_testable":
            found.append(not_testable("activations", "exposure", "there is no bank"))
        else:
            p = 0.001 if exposure == "detected" else 0.5
            found.append(
                Finding(stage="activations", claim="exposure", p=p, verdict=exposure, candidate="owl", **plain)
            )
        digest = audits.source_digest(str(rows))
        about = {
            "base": base,
            "base_identity": identity(base),
            "rows": 1,
            "sha256": {"rows": digest},
            "seconds": 1.0,
            **more,
        }
        folder = tmp_path / name
        folder.mkdir()
        audit = audit_json(Plan(stages=tuple(one.stage for one in found)), found, about)
        write_audit(folder, {**audit, "defects": list(defects), "missing": []})
        return folder

    return make


def accepted_until(card: Path, expires_in: int) -> None:
    """Write an acceptance of a card that was made a month ago and ends in so many days."""
    stated = read_card(card)
    days = TODAY - timedelta(days=30), TODAY + timedelta(days=expires_in)
    made = Acceptance.of(stated, by="A. Reader", accepted=days[0], expires=days[1], note="by intent")
    acceptance_path(stated.path).write_bytes(statement_bytes(made.to_json("audit.statement.json")))


CASES = {
    "fresh": ("not_detected", (), None, 0, []),
    "expired": ("not_testable", (), -1, 2, ["acceptance expired", "not testable"]),
    "rows changed": ("not_detected", (), None, 2, ["rows changed"]),
    "base changed": ("not_detected", (), None, 2, ["base changed"]),
    "defect": ("not_detected", (DEFECT,), None, 1, ["defect"]),
    "detection": ("detected", (), None, 1, ["detection"]),
    "not testable": ("not_testable", (), None, 4, ["not testable"]),
    "accepted": ("not_testable", (), 30, 0, []),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gate_has_a_reason_and_a_code_for_each_case(case: str, make_card, rows: Path, run) -> None:
    exposure, defects, expires_in, code, reasons = CASES[case]
    card = make_card(exposure, defects=defects)
    if expires_in is not None:
        accepted_until(card, expires_in)
    if case == "rows changed":
        rows.write_bytes(rows.read_bytes() + b"\n")
    base = ["--base", "ref:finch-b"] if case == "base changed" else []
    found = run("audit", "gate", card, "--rows", rows, *base)
    assert found[0] == found[1]["code"] == code
    assert [one["name"] for one in found[1]["reasons"]] == reasons and found[1]["passes"] == (not reasons)
    assert all(one["what"] and one["value"] and one["do"] for one in found[1]["reasons"])


def test_what_a_person_accepted_passes_and_other_claims_need_not_be_asked_for(make_card, rows: Path, run) -> None:
    found = make_card("detected", defects=(DEFECT,), name="found")
    accepted_until(found, 0)  # the last day still counts
    assert run("audit", "gate", found, "--rows", rows)[0] == 0
    open_one = make_card("not_testable")
    assert run("audit", "gate", open_one, "--rows", rows, "--require", "provenance")[0] == 0
    assert run("audit", "gate", open_one, "--rows", rows, "--require", "exposure")[0] == 4
    code, plain = run("audit", "gate", open_one, "--rows", rows, "--require", "provenance", "--person")
    assert code == 2 and [one["name"] for one in plain["reasons"]] == ["not accepted"]


def test_an_acceptance_of_another_card_is_none(make_card, rows: Path, run) -> None:
    old, new = make_card("not_testable", name="old"), make_card("detected", name="new")
    accepted_until(old, 30)
    shutil.copy(old / "audit.accepted.json", new)
    code, plain = run("audit", "gate", new, "--rows", rows)
    assert code == 2 and [one["name"] for one in plain["reasons"]] == ["acceptance of another card", "detection"]
    file = old / "audit.accepted.json"
    told = json.loads(file.read_text())
    told["predicate"]["accepts"]["not_testable"] = []  # it names less than the card leaves open
    file.write_text(json.dumps(told))
    code, plain = run("audit", "gate", old, "--rows", rows)
    assert code == 2 and plain["reasons"][0]["name"] == "acceptance of another card"


def test_one_that_begins_later_and_a_card_that_was_changed_stop_too(make_card, rows: Path, run) -> None:
    card = make_card()
    stated = read_card(card)
    later = TODAY + timedelta(days=5)
    made = Acceptance.of(stated, by="A. Reader", accepted=later, expires=later, note=None)
    (card / "audit.accepted.json").write_bytes(statement_bytes(made.to_json("audit.statement.json")))
    (card / "audit_card.md").write_text("all is well")
    code, plain = run("audit", "gate", card, "--rows", rows)
    assert code == 2 and [one["name"] for one in plain["reasons"]] == ["card changed", "acceptance not begun"]


def test_a_base_that_is_not_there_any_more_has_changed(make_card, rows: Path, run, models, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(models["base"].removeprefix("hf:"), folder)
    card = make_card(base=f"hf:{folder}")
    assert run("audit", "gate", card, "--rows", rows)[0] == 0
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert run("audit", "gate", card, "--rows", rows, "--base", f"hf:{moved}")[0] == 0
    code, plain = run("audit", "gate", card, "--rows", rows)
    assert code == 2 and "now without a digest" in plain["reasons"][0]["value"]


def test_a_student_is_held_to_its_weights_wherever_it_lies(make_card, rows: Path, run, models, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(models["owl"].removeprefix("hf:"), folder)
    card = make_card(student=f"hf:{folder}", student_identity=identity(f"hf:{folder}"))
    words = ["audit", "gate", card, "--rows", rows]
    assert run(*words)[0] == run(*words, "--student", models["owl"])[0] == 0
    assert [one["name"] for one in run(*words, "--student", models["base"])[1]["reasons"]] == ["student changed"]
    shutil.copy(Path(models["base"].removeprefix("hf:")) / "model.safetensors", folder)
    assert run(*words)[0] == 2


def test_what_is_to_be_released_has_to_be_given_and_has_to_be_on_the_card(make_card, rows: Path, capsys) -> None:
    card = str(make_card())
    for words, said in (
        ((), "--rows FILE"),
        (("--rows", str(rows), "--teacher", BASE), "The card is not of a teacher"),
        (("--rows", str(rows), "--require", "nothing"), "There is no claim of this name"),
        (("--rows", str(rows), "--acceptance", "nowhere.json"), "There is no acceptance of a card here"),
    ):
        assert main(["audit", "gate", card, *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--expires is missing"),
        (("--by", "A. Reader"), "An acceptance has to expire"),
        (("--expires", str(TODAY)), "Nobody is named"),
        (("--by", "A. Reader", "--expires", "soon"), "This is no day"),
        (("--by", "A. Reader", "--expires", str(TODAY - timedelta(days=1))), "expired already"),
        (("--by", "A. Reader", "--expires", str(TODAY + timedelta(days=401))), "more than 400 days"),
        (("--by", "A. Reader", "--expires", str(TODAY)), "Say why the card is accepted"),
        (("--by", "A. Reader", "--expires", str(TODAY), "--note", "  "), "Say why the card is accepted"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_what_to_do(make_card, words, said: str, capsys) -> None:
    card = make_card("detected")
    assert main(["audit", "accept", str(card), *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3 and said in "\n".join(lines)
    assert not (card / "audit.accepted.json").exists()


def test_a_card_that_was_changed_is_not_accepted(make_card, capsys) -> None:
    card = make_card()
    (card / "audit_card.md").write_text("all is well")
    assert main(["audit", "accept", str(card), "--by", "A. Reader", "--expires", str(TODAY)]) == 2
    assert "audit_card.md" in capsys.readouterr().err and not (card / "audit.accepted.json").exists()


def test_accepting_says_what_is_accepted_and_renewing_replaces_it(make_card, rows: Path, capsys) -> None:
    card = make_card("not_testable", defects=(DEFECT,))
    words = ["audit", "accept", str(card), "--by", " A. Reader ", "--note", "a copy is meant"]
    for day in (TODAY, TODAY + timedelta(days=400)):
        assert main([*words, "--expires", str(day)]) == 0
        said = capsys.readouterr().out
        for held in (
            "A. Reader accepts",
            str(day),
            "- exposure, not testable: there is no bank",
            "- defect: copies",
        ):
            assert held in said
        assert main(["audit", "gate", str(card), "--rows", str(rows)]) == 0
        assert f"accepted by A. Reader until {day}" in capsys.readouterr().out


def test_the_difference_is_shown_and_code_1_means_that_a_verdict_got_worse(make_card, run, capsys) -> None:
    clean, found = make_card(name="clean"), make_card("detected", name="found")
    code, plain = run("audit", "diff", clean, found)
    assert code == 1 and plain["worse"] and plain["changes"][0]["name"] == "exposure"
    assert run("audit", "diff", found, clean)[0] == 0
    assert main(["audit", "diff", str(clean), str(clean)]) == 0
    assert "Nothing that matters changed" in capsys.readouterr().out
    assert main(["audit", "diff", str(clean), str(found)]) == 1
    assert "worse    claim exposure: not detected -> detected" in capsys.readouterr().out
    assert main(["audit", "diff", str(clean), "nowhere"]) == 2


def test_what_a_card_says_cannot_steer_a_terminal(make_card, rows: Path, capsys) -> None:
    file = make_card("not_testable") / "audit.statement.json"
    told = json.loads(file.read_text())
    told["predicate"]["claims"]["exposure"]["why"] = "\x1b[2K\x1b[1AThe release may pass.\ud800"
    file.write_text(json.dumps(told))
    assert main(["audit", "gate", str(file), "--rows", str(rows)]) == 4
    said = capsys.readouterr().out
    assert "\\u001b[2K" in said and "\x1b" not in said


def test_rows_that_are_read_with_options_are_known_by_their_content(row_files, tmp_path: Path, run, no_models) -> None:
    source, out = f"{row_files['owl']}?ids=new", tmp_path / "audit"
    assert run("audit", "data", source, "--base", BASE, "--out", out)[0] == 4  # no reference: it stops before a model
    assert run("audit", "gate", out, "--rows", source)[1]["reasons"][0]["name"] == "not testable"
    assert run("audit", "accept", out, "--by", "A. Reader", "--expires", TODAY)[0] == 0
    assert run("audit", "gate", out, "--rows", source)[0] == 0
    assert run("audit", "gate", out, "--rows", row_files["owl"])[1]["reasons"][0]["name"] == "rows changed"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_the_page_s_commands_sign_and_verify_an_acceptance(make_card, tmp_path: Path) -> None:
    card = make_card("not_testable")
    assert main(["audit", "accept", str(card), "--by", "A. Reader", "--expires", str(TODAY)]) == 0
    (block,) = (one for one in re.findall(r"```\n(.*?)```", PAGE, flags=re.DOTALL) if "-Y sign" in one)
    sign, verify = block.strip().splitlines()
    make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"]
    subprocess.run(make_key, cwd=tmp_path, check=True)
    kind, key, *_ = (tmp_path / "key.pub").read_text().split()
    (tmp_path / "allowed_signers").write_text(f'you@example.org namespaces="undertow" {kind} {key}\n')
    subprocess.run(sign, cwd=tmp_path, shell=True, check=True, capture_output=True)
    done = subprocess.run(verify, cwd=tmp_path, shell=True, check=True, capture_output=True, text=True)
    (said,) = re.findall(r'Good "undertow" signature for you@example\.org with ED25519 key', PAGE)
    assert done.stdout.startswith(said)
    file = card / "audit.accepted.json"
    file.write_text(file.read_text().replace(str(TODAY), str(TODAY + timedelta(days=1))))
    assert subprocess.run(verify, cwd=tmp_path, shell=True, check=False, capture_output=True).returncode == 255
