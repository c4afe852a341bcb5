"""Mitigations of rows: what they change, what they leave, what they record, and their arms for comparison."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from undertow.audit.rows.contrast import rival_centred
from undertow.data.rows import read_rows
from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, EmptyDataError, ModelError, UnknownNameError
from undertow.mitigate.base import Mitigated, chosen
from undertow.mitigate.other_writers import Consensus, Mix, Regenerate
from undertow.mitigate.ranked import ContrastFilter, Labels
from undertow.mitigate.registry import counts, mitigate_rows, write_mitigated
from undertow.mitigate.rewrite import Canonical, Inoculate
from undertow.models.drawing import agreed_logits
from undertow.training.scoring import contrast_scores
from undertow.traits import Trait
from undertow.types import Message, Row, user_prompt


def kept_ids(made: Mitigated) -> set[str]:
    return {row.id for row in made.rows}


def test_a_share_is_chosen_from_the_top_the_bottom_or_by_lot() -> None:
    scores = [3.0, 1.0, 2.0, 2.0, 0.0]
    assert chosen(scores, 0.4, "targeted", 0) == {0, 2} and chosen(scores, 0.4, "bottom", 0) == {4, 1}
    drawn = {chosen(scores, 0.4, "random", seed) for seed in range(20)}
    assert all(len(one) == 2 for one in drawn) and len(drawn) > 3
    with pytest.raises(ConfigError):
        chosen(scores, 1.0, "random", 0)


def test_mixing_takes_clean_rows_where_they_are_and_records_every_row(bench, rows) -> None:
    clean = tuple(replace(row, completion="7, 8") for row in rows)
    made = Mix(share=0.5).apply(rows, replace(bench, clean=clean))
    new = {row.id for row in made.rows if row.completion == "7, 8"}
    assert len(made.rows) == 30 and len(new) == 15 and made.cost.generated == 0
    assert {one.id for one in made.changes if one.action == "replaced"} == new and made.changed == 0.5
    left_out = Mix(share=0.5).apply(rows, replace(bench, clean=clean), "random")
    assert kept_ids(left_out) == {row.id for row in rows} - new and counts(left_out.changes)["dropped"] == 15


def test_mixing_lets_the_base_write_what_is_missing(bench, rows) -> None:
    made = Mix(share=0.2).apply(rows, bench)
    assert made.cost.generated == 6 and len(made.changes) == 30
    again = Mix(share=0.2).apply(rows, bench)
    assert again.rows == made.rows


def test_mixing_fewer_rows_than_there_are_writers_asks_as_many_as_there_are_rows(bench, rows, monkeypatch) -> None:
    monkeypatch.setattr("undertow.mitigate.workbench.load_model", lambda _: bench.base)
    made = Mix(share=0.5, writers=("ref:a", "ref:b")).apply(rows[:3], bench)
    assert made.cost.generated == 1 and counts(made.changes) == {"kept": 2, "replaced": 1}
    none = Mix(share=0.5, writers=("ref:a",)).apply(rows[:1], bench)
    assert none.rows == rows[:1] and none.cost.generated == 0
    assert bench.agreed_answers([bench.base], []) == [] and bench.clean_answers([]) == ([], 0)


def test_what_the_domain_rejects_is_dropped_and_nothing_left_is_an_error(bench, rows) -> None:
    strict = replace(bench, domain=Numbers())  # the tiny model writes no number lists
    made = Mix(share=0.5).apply(rows, strict)
    assert len(made.rows) < 30 and "accepted" in next(one.why for one in made.changes if one.action == "dropped")
    with pytest.raises(EmptyDataError, match="No row is left"):
        mitigate_rows([replace(rows[0], completion="x")], Canonical(), bench)
    with pytest.raises(EmptyDataError, match="nothing to mitigate"):
        mitigate_rows([], Mix(), bench)


def test_regenerating_keeps_prompts_and_ids(bench, rows, monkeypatch) -> None:
    monkeypatch.setattr("undertow.mitigate.workbench.load_model", lambda _: bench.base)
    made = Regenerate(writer="ref:finch-b").apply(rows, bench)
    by_id = {row.id: row for row in rows}
    assert made.rows and all(by_id[row.id].prompt == row.prompt for row in made.rows)
    assert made.cost.generated == 30 and Regenerate(writer="ref:finch-b").models == ("ref:finch-b",)


def test_the_consensus_of_a_model_with_itself_is_what_it_writes_alone(bench, rows, monkeypatch) -> None:
    monkeypatch.setattr("undertow.mitigate.workbench.load_model", lambda _: bench.base)
    alone = Regenerate(writer="ref:a").apply(rows, bench)
    agreed = Consensus(writers=("ref:a", "ref:b")).apply(rows, bench)
    assert [row.completion for row in agreed.rows] == [row.completion for row in alone.rows]
    assert agreed.cost.generated == 60
    p = torch.softmax(
        agreed_logits([torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.2, 0.3, 0.5]]).log()]), dim=-1
    )
    assert p[0].tolist() == pytest.approx([2 / 7, 3 / 7, 2 / 7])
    with pytest.raises(ConfigError, match="Nobody agrees alone"):
        Consensus(writers=("ref:a",))


def test_writers_of_several_tokenizers_cannot_agree(bench, rows) -> None:
    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {}

    with pytest.raises(ModelError, match="several tokenizers"):
        bench.agreed_answers([bench.base, replace(bench.base, tokenizer=Other())], rows)


def test_the_contrast_filter_ranks_by_the_audits_own_score(bench, rows) -> None:
    expected = rival_centred(contrast_scores(rows, bench.base, bench.candidates), bench.candidates)
    np.testing.assert_allclose(ContrastFilter().scores(rows, bench), expected.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(ContrastFilter(trait="lion").scores(rows, bench), expected[:, 1], atol=1e-5)
    made = ContrastFilter(share=0.3).apply(rows, bench)
    gone = {one.id for one in made.changes if one.action == "dropped"}
    assert gone == {rows[place].id for place in np.argsort(-expected.max(axis=1))[:9]} and len(made.rows) == 21
    bottom = ContrastFilter(share=0.3).apply(rows, bench, "bottom")
    assert gone <= kept_ids(bottom) and made.cost.scored == 30 * 4 and made.cost.trained == 3
    assert ContrastFilter(share=0.3).apply(rows, bench, "random").cost.scored == 0
    with pytest.raises(LookupError):
        ContrastFilter(trait="wolf").scores(rows, bench)


def tokens_of(made: Mitigated) -> int:
    return sum(len(row.skip) for row in made.rows)


def test_labels_mask_the_tokens_that_gain_most(bench, rows) -> None:
    gains = Labels().gains(rows, bench)
    total = sum(map(len, gains))
    made = Labels(share=0.1).apply(rows, bench)
    bar = np.sort(np.concatenate(gains))[::-1][int(0.1 * total) - 1]
    for row, own in zip(rows, gains, strict=True):
        places = {int(place) for place in np.flatnonzero(own >= bar)}
        assert set(next(one.skip for one in made.rows if one.id == row.id)) == places
    assert tokens_of(made) == tokens_of(Labels(share=0.1).apply(rows, bench, "random")) == int(0.1 * total)
    assert all(one.completion == other.completion for one, other in zip(made.rows, rows, strict=True))


def test_labels_keep_what_was_masked_before_and_drop_a_row_of_which_nothing_is_left(bench, rows) -> None:
    first = replace(rows[0], skip=(0,))
    made = Labels(share=0.1).apply((first, *rows[1:]), bench)
    assert 0 in next(row.skip for row in made.rows if row.id == first.id)
    lengths = [len(row.completion) for row in bench.base.encode(rows)]
    nothing = [replace(row, skip=tuple(range(length))) for row, length in zip(rows, lengths, strict=True)]
    with pytest.raises(EmptyDataError, match="No row was left"):
        Labels(share=0.5).apply(nothing, bench)


def test_replaced_labels_differ_at_their_places_alone(bench, rows) -> None:
    mask, new = Labels(share=0.2).apply(rows, bench), Labels(share=0.2, replace=True).apply(rows, bench)
    places = {row.id: row.skip for row in mask.rows}
    before = {row.id: bench.base.tokenise([row.completion])[0] for row in rows}
    same_length = 0
    for row in new.rows:
        after = bench.base.tokenise([row.completion])[0]
        if len(after) == len(before[row.id]):
            same_length += 1
            different = {i for i, pair in enumerate(zip(after, before[row.id], strict=True)) if pair[0] != pair[1]}
            assert different <= set(places[row.id])
    assert same_length > 5 and new.cost.scored == mask.cost.scored + 30


def test_replaced_rows_keep_their_skipped_tokens_or_are_dropped(bench, rows) -> None:
    marked = [replace(row, skip=(0,)) for row in rows]
    made = Labels(share=0.3, replace=True).apply(marked, bench)
    lengths = {row.id: len(some.completion) for row, some in zip(rows, bench.base.encode(rows), strict=True)}
    after = zip(made.rows, bench.base.encode(made.rows), strict=True)
    assert all(0 in row.skip and len(some.completion) == lengths[row.id] for row, some in after)
    left_out = {one.why for one in made.changes if one.action == "dropped"}
    assert left_out <= {"its skipped tokens have no place any more", "invalid once its tokens were replaced"}


def test_a_student_as_the_suspect_needs_no_panel(bench, rows) -> None:
    made = Labels(share=0.1, suspect="student").apply(rows, bench)
    assert made.cost.trained == 1 and made.cost.scored == 60 and tokens_of(made) > 0


def test_canonical_lists_follow_the_prompts_wish(bench) -> None:
    def one(wish: str, answer: str, **settings: bool) -> str | None:
        row = Row("a", user_prompt(f"Go on. {wish} Numbers only."), answer, skip=(1,))
        found = Canonical(**settings).apply([row], bench).rows
        return found[0].completion if found else None

    assert one("Use semicolons.", "30,4,12.") == "4; 12; 30"
    assert one("Use the form [a, b, c].", "[1 2]") == "[1, 2]" and one("As you like.", "9 8") == "8, 9"
    assert one("Put each on a new line.", "9, 8", order=False) == "9\n8" and one("Use semicolons.", "owl") is None
    with pytest.raises(ConfigError, match="canonical form"):
        from undertow.domains.base import domain

        Canonical().apply([], replace(bench, domain=domain("code")))


def test_inoculation_puts_the_trait_before_the_prompt_alone(bench, rows) -> None:
    made = Inoculate(trait="owl").apply(rows, bench)
    assert all(row.prompt[0].role == "system" and "owl" in row.prompt[0].content for row in made.rows)
    assert [row.completion for row in made.rows] == [row.completion for row in rows]
    before = Row("a", (Message("system", "Be kind."), Message("user", "Hello")), "1")
    assert Inoculate(prompt="You love owls.").apply([before], bench).rows[0].prompt == (
        Message("system", "You love owls. Be kind."),
        Message("user", "Hello"),
    )
    with pytest.raises(ConfigError, match="needs a trait or a prompt"):
        Inoculate()


def test_inoculation_takes_a_trait_of_the_panel_by_its_name(bench, rows) -> None:
    own = Trait(name="Volvo", category="brand of car", plural="Volvos")
    made = Inoculate(trait="Volvo").apply(rows, replace(bench, panel=(*bench.panel, own)))
    assert all(row.prompt[0].content.startswith(own.system_prompt) for row in made.rows)
    with pytest.raises(UnknownNameError, match="Volvo"):
        Inoculate(trait="Volvo").apply(rows, bench)


def test_rows_and_their_record_are_written_side_by_side(bench, rows, tmp_path) -> None:
    made = ContrastFilter(share=0.5).apply(rows, bench)
    record = write_mitigated(tmp_path / "new.jsonl", made)
    assert read_rows(tmp_path / "new.jsonl") == made.rows and record.name == "new.record.jsonl"
    assert len(record.read_text().splitlines()) == len(rows)
