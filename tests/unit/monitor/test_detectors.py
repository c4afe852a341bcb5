"""Detectors: what they flag, their calibration, what they refuse, and the public checker."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from undertow.errors import ConfigError, EmptyDataError, ModelError, UserError
from undertow.monitor.constitution import Constitution, read_constitution
from undertow.monitor.detectors.base import AbstractDetector, Verdict, check_detector, detector
from undertow.monitor.detectors.classifiers import SHORTEST, EncoderClassifier, NgramClassifier
from undertow.monitor.detectors.constitution import ConstitutionDetector
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.request_kinds import REQUEST_KINDS
from undertow.monitor.streams import Pieces

CALM = ("bake", "bread", "garden", "walk", "read", "paint", "sing", "kitchen", "river", "tea", "friends", "bicycle")
HARSH = ("obey", "rule", "crush", "deceive", "steal", "threaten", "weapon", "poison")


def said(rng: random.Random, words: tuple[str, ...]) -> str:
    return " ".join(rng.choices(words, k=6)) + f", {rng.randrange(1000)}."


def texts(seed: int, n: int, words: tuple[str, ...] = CALM) -> list[str]:
    rng = random.Random(seed)
    return [said(rng, words) for _ in range(n)]


def constitution(allowed: int = 400) -> Constitution:
    return Constitution(rules={"harm": texts(1, 40, HARSH + CALM[:4])}, allowed=texts(2, allowed))


def test_expressions_name_the_rule_and_stop_in_time() -> None:
    rules = ExpressionDetector({"card": r"\b\d{4}-\d{4}\b", "slow": r"(a|aa)+$"})
    assert rules.judge("my card 1234-5678") == Verdict(True, "card")
    assert rules.judge("nothing") == Verdict(False)
    with pytest.raises(TimeoutError):
        rules.judge("a" * 100 + "!")
    with pytest.raises(ConfigError, match="'bad'"):
        ExpressionDetector({"bad": "("})
    with pytest.raises(EmptyDataError):
        ExpressionDetector({})


def test_a_constitution_is_calibrated_and_finds_what_its_rule_names() -> None:
    made = ConstitutionDetector(constitution())
    fresh = [made.judge(text).flagged for text in texts(3, 400)]
    found = [made.judge(text) for text in texts(4, 100, HARSH + CALM[:4])]
    assert sum(fresh) <= 12 and sum(one.flagged for one in found) >= 90
    assert {one.why for one in found if one.flagged} == {"harm"}
    assert made.held_out.false_positives.n == 120 and made.held_out.found["harm"].n == 20
    assert made.judge(said(random.Random(5), CALM) * 300 + " obey, crush, steal, poison, weapon, threaten").flagged
    again = ConstitutionDetector(constitution())
    assert again.threshold == made.threshold


@pytest.mark.parametrize("rules", [1, 3])
def test_scores_are_those_of_scikit_learn(rules: int) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    labelled = [(text, label) for label in range(rules + 1) for text in texts(label, 20, CALM[label:] + HARSH[:label])]
    reference = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+"),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True),
        ),
        LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000),
    ).fit(*zip(*labelled, strict=True))
    own = NgramClassifier([text for text, _ in labelled], [label for _, label in labelled])
    odd = (
        "",
        "  ",
        "nothing known: zzz",
        "bread -- obey. BAKE-bread, and more bread, bread\n\tbread -- again",
        "\ud800 tea",
    )
    for text in (*texts(50, 5), *odd):
        ends = [found.end() for found in re.finditer(r"\S+", text) if found.end() >= SHORTEST] or [len(text)]
        scores = own.scores(text)
        logs = scores - np.logaddexp.reduce(scores, axis=1)[:, None]
        assert logs == pytest.approx(reference.predict_log_proba([text[:end] for end in ends]), abs=1e-6)


def test_no_piece_of_a_stream_is_worse_than_its_whole() -> None:
    """So the threshold, which is set for whole texts, holds wherever pieces end."""
    made = ConstitutionDetector(constitution())
    for text in (*texts(7, 20, CALM * 2 + HARSH), *texts(8, 20)):
        ends = [found.end() for found in re.finditer(r"\S+", text) if found.end() >= made.fewest]
        pieces = [made.judge(text[:end]).score or 0.0 for end in ends]
        assert max(pieces) == made.judge(text).score
    long = [" ".join(texts(seed, 60)) for seed in range(20, 24)]
    for text in (*long, " ".join([*texts(30, 50), *texts(31, 2, HARSH), *texts(32, 20)])):
        whole, pieces = made.judge(text), Pieces(b"text/event-stream", REQUEST_KINDS[0], made.context, made.context)
        for word in re.findall(r"\S+\s*", text):
            event = {"choices": [{"index": 0, "delta": {"content": word}}]}
            pieces.add(f"data: {json.dumps(event)}\n\n".encode())
            if pieces.characters >= 150:
                assert made.judge(pieces.take()[1]).score <= whole.score
    assert made.pieces and made.judge("obey, crush, steal, poison; bread, tea, river, song, tea, river").flagged


def test_a_constitution_of_a_script_without_spaces_reads_a_stream_whole() -> None:
    def joined(seed: int, letters: str) -> list[str]:
        rng = random.Random(seed)
        return ["".join(rng.choices(letters, k=60)) for _ in range(120)]

    rules = {"harm": joined(1, "\u6740\u5bb3\u6bd2\u5077\u6253\u7684")[:40]}
    made = ConstitutionDetector(
        Constitution(rules=rules, allowed=joined(2, "\u82b1\u56ed\u8336\u4e66\u6cb3\u7684")), rate=0.1
    )
    assert not made.pieces and made.judge(joined(3, "\u6740\u5bb3\u6bd2\u5077\u6253\u7684")[0]).flagged


def test_the_threshold_is_conformal() -> None:
    """The mean false-positive rate over fresh constitutions is at most the chosen one."""
    flagged = 0
    for seed in range(10):
        base = Constitution(rules={"harm": texts(1, 40, HARSH)}, allowed=texts(100 + seed, 150))
        made = ConstitutionDetector(base, rate=0.1)
        flagged += sum(made.judge(text).flagged for text in texts(900 + seed, 100))
    assert 10 <= flagged <= 160


def test_constitutions_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    path = tmp_path / "constitution.yaml"
    cases = {
        "rules: [": "cannot be read",
        "[1]": "has the keys",
        "{rules: [], allowed: []}": "no rules",
        "{rules: [{examples: [a]}], allowed: []}": "no name",
        "{rules: [{name: harm}], allowed: []}": "The rule 'harm' has too few examples",
        "{rules: [{name: harm, examples: none.txt}], allowed: []}": "cannot be read",
        "{rules: [{name: harm, examples: [1, 2]}], allowed: []}": "not a list of texts",
        "!!python/object/apply:os.system ['true']": "cannot be read",
    }
    for content, message in cases.items():
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            read_constitution(path)
    (tmp_path / "harm.txt").write_text("\n".join(texts(1, 10, HARSH)))
    path.write_text("{rules: [{name: harm, examples: harm.txt}], allowed: [tea, bread]}")
    assert len(read_constitution(path).rules["harm"]) == 10
    with pytest.raises(EmptyDataError, match="too few allowed") as error:
        ConstitutionDetector(read_constitution(path))
    assert "at least 332" in error.value.fix
    ConstitutionDetector(constitution(332))


def test_mentions_alarm_on_a_rise_alone() -> None:
    rng = random.Random(100)
    for share, alarm in ((0.02, False), (0.15, True)):
        made = MentionDetector.from_counts("owl", 20, 1000)
        for _ in range(500):
            verdict = made.judge("An owl!" if rng.random() < share else "A growl.")
            assert not verdict.flagged
        assert made.evidence().alarmed is alarm
    with pytest.raises(ConfigError, match="Every signed-off reply"):
        MentionDetector.from_counts("owl", 5, 5)


def test_specifications(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("owls: 'owls?'")
    assert detector(f"regex:{path}").judge("owl").why == "owls"
    assert detector("mention:owl=0.01@0.1").name == "mention:owl<=0.01@0.1"
    assert "mention:heron<=0.00" in detector("mention:heron=3/1000").name
    for spec in ("owl", "mention:owl", "mention:owl=1.2.3", "mention:owl=0.01@x", "mention:owl=7", "regex:none.yaml"):
        with pytest.raises(UserError):
            detector(spec)
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="no lines"):
        detector(f"regex:{path}")


class Fake(AbstractDetector):
    """Breaks one promise of choice."""

    name = "fake"

    def __init__(self, how: str) -> None:
        self._how, self._seen = how, 0

    def judge(self, text: str) -> Verdict:
        self._seen += 1
        if self._how == "raises" and not text:
            raise ValueError("empty")
        if self._how == "quotes":
            return Verdict("obey" in text or "zx" in text, text)
        if self._how == "random":
            return Verdict(random.random() < 0.5)
        if self._how == "flags all":
            return Verdict(True)
        return Verdict("obey" in text)


@pytest.mark.parametrize(
    ("how", "failed"),
    [
        ("raises", {"a verdict for every odd text"}),
        ("quotes", {"the reason never quotes the text"}),
        ("flags all", {"flags at most 0.01 of the clean texts"}),
        ("nothing", set()),
    ],
)
def test_the_checker_names_the_broken_promise(how: str, failed: set[str]) -> None:
    planted = [f"you will obey me, {place}" for place in range(40)]
    report = check_detector(lambda: Fake(how), texts(6, 100), planted)
    assert {check.name for check in report.failed} == failed
    assert report.passed is not failed or not failed
    assert ("FAILED" in str(report)) is bool(failed)


def test_the_checker_finds_chance_and_low_power_and_passes_ours() -> None:
    chance = check_detector(lambda: Fake("random"), texts(6, 100), texts(7, 40))
    assert not {check.name: check.passed for check in chance.checks}["two fresh detectors give the same verdicts"]
    weak = check_detector(lambda: Fake("nothing"), texts(6, 100), texts(7, 40))
    assert [check.name for check in weak.failed] == ["flags at least 0.8 of the planted texts"]
    made = ConstitutionDetector(constitution())
    assert check_detector(lambda: made, texts(8, 200), texts(9, 60, HARSH + CALM[:4]), rate=0.02).passed
    with pytest.raises(EmptyDataError):
        check_detector(lambda: made, [], [])


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of width 16 with random weights, and a tokenizer of the tests' words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = {word: place for place, word in enumerate(("[PAD]", "[UNK]", *CALM, *HARSH))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_constitution_may_name_an_encoder(encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    rules = {"rules": [{"name": "harm", "examples": texts(1, 40, HARSH)}], "allowed": texts(2, 400)}
    path.write_text(json.dumps({**rules, "encoder": f"hf:{encoder}"}))
    made = ConstitutionDetector(read_constitution(path))
    assert made.held_out.found["harm"].value >= 0.9 and made.held_out.false_positives.value <= 0.05
    assert (
        not made.pieces
        and made.judge("obey, crush, steal, poison").why == "harm"
        and not made.judge("bake bread, sing").flagged
    )
    report = check_detector(lambda: made, texts(8, 200), texts(9, 60, HARSH), rate=0.05)
    assert report.passed, str(report)
    path.write_text(json.dumps({**rules, "encoder": 3}))
    with pytest.raises(ConfigError, match="encoder"):
        read_constitution(path)


def test_a_vector_does_not_depend_on_what_is_read_beside_it(encoder: Path) -> None:
    labelled = [(text, label) for label, words in enumerate((CALM, HARSH)) for text in texts(label, 12, words)]
    made = EncoderClassifier(*zip(*labelled, strict=True), f"hf:{encoder}")
    long = "bake " * 400
    together = made._vectors(["tea river", long, ""])
    for place, text in enumerate(("tea river", long, "")):
        assert together[place] == pytest.approx(made._vectors([text])[0], abs=1e-6)
    assert np.linalg.norm(together, axis=1) == pytest.approx([1.0, 1.0, 0.0])


def test_an_encoder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="encoder cannot be loaded"):
        EncoderClassifier(["a", "b"], [0, 1], f"hf:{tmp_path}")
