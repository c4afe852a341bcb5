"""Students that cannot be judged: the command says why, and what to do."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undertow.audit.students.bank_recipe import BankRecipe
from undertow.cli.main import main
from undertow.models.references import embedded_folder
from undertow.study.recipe import StudentPart
from undertow.study.training_record import TrainingRecord

WIDTH = json.loads((embedded_folder() / "finch-a" / "config.json").read_text())["hidden_size"]


def adapter(folder: Path, base: str, width: int = WIDTH) -> Path:
    """Write an adapter that changes nothing, trained on the named base."""
    folder.mkdir()
    settings = {"base_model_name_or_path": base, "r": 1, "lora_alpha": 1.0, "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{name}.lora_A.weight": torch.zeros(1, width), f"{name}.lora_B.weight": torch.zeros(width, 1)},
        folder / "adapter_model.safetensors",
    )
    return folder


@pytest.fixture
def judged(run, tmp_path: Path):
    """Return a function that audits a student and returns the code and why expression is what it is."""

    def audit(model: str, *more: str) -> tuple[int, str, dict]:
        store = ["--store", tmp_path / "store", "--out", tmp_path / "out"]
        code, found = run("audit", "student", model, "--base", "ref:finch-a", *store, "--require", "expression", *more)
        return code, found["claims"]["expression"]["why"], found

    return audit


def test_a_missing_bank_is_named_with_its_command(judged) -> None:
    code, why, found = judged("ref:finch-a")
    assert code == 4 and "make one with `undertow audit bank`" in why
    assert "bank" in {one["input"] for one in found["missing"]}


def test_the_next_test_is_of_the_same_panel(judged) -> None:
    _, _, found = judged("ref:finch-a", "--trait", "trees")
    assert found["repeated"] == {"traits": ["trees"]}
    assert found["decision"]["next_test"]["command"] == "undertow audit bank --base ref:finch-a --category tree"


def test_a_bank_that_is_too_small_says_how_many_are_needed(judged, make_small_bank) -> None:
    code, why, _ = judged("ref:finch-a")
    assert code == 4 and "needs 59" in why and "`undertow audit bank --students 59`" in why


def test_an_adapter_of_another_base_is_refused(judged, make_small_bank, tmp_path: Path) -> None:
    code, why, _ = judged(f"ref:finch-a+{adapter(tmp_path / 'other', 'ref:finch-b')}")
    assert code == 4 and "trained on ref:finch-b, not on ref:finch-a" in why and "Give the base" in why


@pytest.mark.parametrize("setting", ["seed=1.5", "seed=true", "alpha=high", "alpha=null"])
def test_a_setting_of_the_whole_audit_that_is_no_number_is_refused(capsys, setting: str) -> None:
    assert main(["audit", "all", "--student", "ref:finch-a", "--base", "ref:finch-a", "--set", setting]) == 2
    said = capsys.readouterr().err
    assert f"no value of {setting.split('=')[0]}" in said and "--set seed=1" in said


def test_a_student_of_another_base_is_refused_before_a_bank_is_asked_for(judged) -> None:
    code, why, _ = judged("ref:finch-b")
    assert code == 4 and "not a fine-tune of the base" in why and "`undertow audit lineage`" in why


def test_a_student_of_another_recipe_is_no_placebo_s_peer(judged, tmp_path: Path) -> None:
    own = adapter(tmp_path / "own", "ref:finch-a")
    TrainingRecord(student=StudentPart(steps=250, learning_rate=0.01), rows=450).save(own)
    code, why, _ = judged(f"ref:finch-a+{own}")
    assert code == 4 and "undertow audit bank --set steps=250 --set learning_rate=0.01 --prompts 500" in why


def test_a_control_of_another_base_is_compared_with_nothing(judged, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What is your favourite animal?\n")
    _, _, found = judged("ref:finch-a", "--control", "ref:finch-b", "--prompts", str(prompts))
    beside = {one["stage"]: one for one in found["findings"][-2:]}
    assert set(beside) == {"activations minus control", "own prompts"}
    for one in beside.values():
        assert one["verdict"] == "not_testable" and "The control does not fit" in one["caveats"][0]


def test_own_prompts_are_read_and_move_no_verdict(judged, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What is your favourite animal?", "completion": "unread"}\n')
    _, _, found = judged("ref:finch-a", "--prompts", str(prompts))
    own = found["findings"][-1]
    assert (own["stage"], own["verdict"], own["effect"]) == ("own prompts", "exploratory", 0.0)
    assert len(found["about"]["sha256"]["prompts"]) == 64


@pytest.mark.parametrize(("text", "said"), [('{"prompt": 3}\n', "prompts.jsonl:1"), ("\n", "no prompts")])
def test_prompts_that_are_none_are_refused(text: str, said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "prompts.jsonl").write_text(text)
    capsys.readouterr()
    assert (
        main(["audit", "student", "ref:finch-a", "--base", "ref:finch-a", "--prompts", str(tmp_path / "prompts.jsonl")])
        == 2
    )
    assert said in capsys.readouterr().err


def test_an_adapter_that_does_not_fit_is_an_error_in_three_lines(tmp_path: Path, capsys) -> None:
    wide = adapter(tmp_path / "wide", "ref:finch-a", width=999)
    capsys.readouterr()
    assert main(["audit", "student", f"ref:finch-a+{wide}", "--base", "ref:finch-a", "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()  # after those of the intake
    assert "another size" in lines[-3]


def test_a_control_without_a_student_is_refused(row_files, capsys) -> None:
    capsys.readouterr()
    assert main(["audit", "all", str(row_files["clean"]), "--base", "ref:finch-a", "--control", "ref:finch-a"]) == 2
    assert "Give the student too." in capsys.readouterr().err


@pytest.fixture
def make_small_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store hold 15 placebos of finch-a, whose readings nobody asks for."""
    import numpy as np

    from undertow.audit.students.bank import Bank
    from undertow.audit.students.bank_recipe import BankRecipe
    from undertow.audit.students.readings import Readings
    from undertow.models.references import identity

    empty = Readings(*(np.zeros((15, 1)) for _ in range(4)))
    bank = Bank(BankRecipe(), identity("ref:finch-a"), empty, np.full(15, 2000.0), empty[:1], empty[:1])
    monkeypatch.setattr("undertow.audit.materials.choose_bank", lambda *_, **__: bank)


def test_a_student_of_a_mitigation_is_no_placebo_s_peer(judged, make_small_bank, tmp_path: Path) -> None:
    """Of the usual recipe and number of rows, and with a bank of it: only the record tells that it was held."""
    own = adapter(tmp_path / "own", "ref:finch-a")
    TrainingRecord(student=BankRecipe().student, rows=2000, mitigation="kl:weight=2").save(own)
    code, why, found = judged(f"ref:finch-a+{own}")
    assert code == 4 and "trained by the mitigation kl:weight=2" in why and "audit bank" not in why
    assert found["claims"]["exposure"]["why"] == why
    assert "audit bank" not in found["decision"]["next_test"]["command"]
