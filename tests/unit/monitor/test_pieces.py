"""Streamed replies judged in pieces: what goes out when, and what never does."""

import json
import threading
import time
from typing import Any

import pytest

from undertow.errors import ConfigError
from undertow.monitor.detectors.base import AbstractDetector, GatheredEvidence, Verdict
from undertow.monitor.detectors.expressions import ExpressionDetector
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.request_kinds import REQUEST_KINDS, request_kind
from undertow.monitor.settings import Limits, Policy, build_policy, check_settings
from undertow.monitor.streams import Lanes, Pieces, read_lanes

CHAT = "/v1/chat/completions"
BLOCK = build_policy("block", True, False)
SSE = b"text/event-stream"
WORDS = "one two three four five six seven eight nine ten eleven twelve"


def owls() -> ExpressionDetector:
    return ExpressionDetector({"names owls": r"\bowls?\b"})


def read(stand: Any, said: str, **headers: str) -> tuple[int, bytes, list[float]]:
    """Ask for a stream; return status, bytes, and the seconds until each piece came."""
    times: list[float] = []
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "x"}]})
    began, found = time.monotonic(), b""
    with stand.client.stream("POST", CHAT, content=body, headers={"x-text": said, **headers}) as reply:
        for piece in reply.iter_raw():
            found += piece
            times.append(time.monotonic() - began)
        return reply.status_code, found, times


def direct(stand: Any, said: str) -> bytes:
    return stand.direct.post(CHAT, content=b'{"stream": true}', headers={"x-text": said}).content


def test_a_judged_stream_comes_in_pieces_byte_for_byte(start: Any) -> None:
    with start(BLOCK, [owls()], chunk_characters=15, chunk_s=30.0) as stand:
        expected = direct(stand, WORDS)
        stand.server.pause_s = 0.2
        status, found, times = read(stand, WORDS)
        assert (status, found) == (200, expected)
        assert times[0] < times[-1] - 1.0, "the first piece does not wait for the end"
        assert [one["outcome"] for one in stand.events(1)] == ["passed"]


def test_the_first_piece_comes_after_its_time_although_it_is_not_full(start: Any) -> None:
    with start(BLOCK, [owls()], chunk_characters=10_000, chunk_s=0.3) as stand:
        stand.server.pause_s = 0.3
        status, _, times = read(stand, WORDS)
        assert status == 200 and times[0] < times[-1] - 1.5


def test_what_must_not_pass_ends_the_stream_with_an_error(start: Any) -> None:
    with start(BLOCK, [owls()], chunk_characters=15, chunk_s=30.0) as stand:
        status, found, _ = read(stand, "one two three four five six seven an owl here")
        assert status == 200 and b"one" in found and b"owl" not in found and b"here" not in found
        last = [json.loads(line[6:]) for line in found.splitlines() if line.startswith(b"data: {")][-1]
        assert last["error"]["code"] == "content_blocked"
        assert found.endswith(b"data: [DONE]\n\n")
        (event,) = stand.events(1)
        assert (event["outcome"], event["status"], event["upstream_status"]) == ("blocked_reply", 200, 200)
        assert last["error"]["request_id"] == event["request_id"]
        assert read(stand, "an owl at once, and more of it")[0] == 403


def test_what_stands_across_two_pieces_is_seen(start: Any) -> None:
    rule = ExpressionDetector({"both": "three four five"})
    with start(BLOCK, [rule], chunk_characters=10, chunk_s=30.0, context_characters=100) as stand:
        assert b"content_blocked" in read(stand, WORDS)[1]
    with start(BLOCK, [rule], chunk_characters=10, chunk_s=30.0, context_characters=0) as stand:
        assert b"content_blocked" not in read(stand, WORDS)[1], "without context a border hides it"


def test_without_pieces_a_stream_is_held_until_its_end(start: Any) -> None:
    with start(BLOCK, [owls()], chunk_characters=0) as stand:
        stand.server.pause_s = 0.05
        status, found, times = read(stand, WORDS)
        assert (status, found) == (200, direct(stand, WORDS)) and times[-1] - times[0] < 0.5
        assert read(stand, "one two three an owl")[0] == 403


class Whole(AbstractDetector):
    """Flags a reply by what stands at its two ends."""

    name, pieces = "whole", False
    sides = frozenset(("reply",))

    def judge(self, text: str) -> Verdict:
        return Verdict(text.startswith("one") and text.strip().endswith("twelve"), "both ends")


def test_a_detector_that_needs_the_end_has_the_stream_held(start: Any) -> None:
    with start(BLOCK, [owls(), Whole()], chunk_characters=10) as stand:
        assert read(stand, WORDS)[0] == 403


class Careful(AbstractDetector):
    """Notes what it reads, and cannot judge a beginning of less than twenty characters."""

    name, fewest = "careful", 20
    sides = frozenset(("reply",))

    def __init__(self) -> None:
        self.texts: list[str] = []

    def judge(self, text: str) -> Verdict:
        self.texts.append(text)
        return Verdict(text.startswith("one two three four five"), "counts")


def test_a_piece_that_is_too_short_for_a_detector_waits_for_more(start: Any) -> None:
    detector = Careful()
    with start(BLOCK, [detector], chunk_characters=3, chunk_s=0.05) as stand:
        stand.server.pause_s = 0.1
        status, found, _ = read(stand, WORDS)
        assert status == 200 and found.startswith(b": keep alive"), "what holds no text does not wait"
        assert b"content_blocked" in found and b'"one ' not in found, "no word had gone out"
        assert detector.texts == ["one two three four five "]
        assert read(stand, "a short reply")[0] == 200 and detector.texts[-1] == "a short reply ", "it had ended"
        read(stand, "six seven eight nine ten eleven twelve thirteen")
        assert detector.texts[2] == "six seven eight nine " and len(detector.texts) > 4, "later pieces have it before"


def test_detectors_that_count_replies_count_each_once(start: Any) -> None:
    mention = MentionDetector("owl", 0.01)
    with start(build_policy("block", False, False), [ExpressionDetector({"no": "zzz"}), mention],
               chunk_characters=5, chunk_s=30.0) as stand:  # fmt: skip
        read(stand, "one owl and two owls and three owls")
        read(stand, WORDS)
        (first, second) = stand.events(2)
        assert len(first["judgements"]) == len(second["judgements"]) == 3, "one of each detector and side"
    found = mention.evidence()
    assert isinstance(found, GatheredEvidence) and (found.n, found.hits) == (2, 1)


class Failing(AbstractDetector):
    """Fails on the third piece."""

    name = "failing"
    sides = frozenset(("reply",))

    def judge(self, text: str) -> Verdict:
        if "six" in text:
            raise ValueError
        return Verdict(False)


def test_a_piece_that_cannot_be_judged_goes_out_by_fail_open_alone(start: Any) -> None:
    for policy in (BLOCK, build_policy("block", False, False)):
        with start(policy, [Failing()], chunk_characters=15, chunk_s=30.0) as stand:
            status, found, _ = read(stand, WORDS)
            assert status == 200 and (b"twelve" in found) is not policy.fail_closed
            assert (b"not_judged" in found) is policy.fail_closed


def test_the_end_of_a_flagged_stream_is_marked(start: Any) -> None:
    with start(Policy(mode="flag"), [owls()]) as stand:
        expected = direct(stand, "one two an owl")
        status, found, _ = read(stand, "one two an owl")
        mark = b": x-undertow-flagged: names owls\n\n"
        assert status == 200 and found == expected.replace(b"data: [DONE]", mark + b"data: [DONE]")
        assert read(stand, WORDS)[1] == direct(stand, WORDS)


def test_slow_detectors_hold_up_no_stream_of_others(start: Any) -> None:
    gate = threading.Event()

    class Waits(AbstractDetector):
        name, threads = "waits", 8
        sides = frozenset(("reply",))

        def judge(self, text: str) -> Verdict:
            if "slow" in text:
                gate.wait(30)
            return Verdict(False)

    with start(BLOCK, [Waits()], chunk_characters=5, detector_s=60.0) as stand:
        slow = threading.Thread(target=read, args=(stand, "slow words"))
        slow.start()
        assert read(stand, WORDS)[0] == 200
        gate.set()
        slow.join(30)


EVENTS = [{"choices": [{"index": 0, "delta": {"content": word + " "}}]} for word in WORDS.split()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_pieces_are_whole_events_however_the_bytes_come(size: int, end: str) -> None:
    body = "".join(f"data: {json.dumps(one)}{end}" for one in EVENTS).encode() + b": comment"
    pieces, taken, texts = Pieces(SSE, REQUEST_KINDS[0], 10), b"", ""
    for start in range(0, len(body), size):
        pieces.add(body[start : start + size])
        if pieces.characters > 8:
            data, text = pieces.take()
            assert data.endswith(end.encode()) and text
            taken, texts = taken + data, texts + text[-9:]
    pieces.finish()
    taken += pieces.take()[0]
    assert taken == body and pieces.lanes.whole() == WORDS + " "


def test_an_interface_that_repeats_itself_is_read_once() -> None:
    responses = request_kind("POST", b"/v1/responses")
    assert responses is not None
    events = [{"type": "response.output_text.delta", "output_index": 0, "delta": part} for part in ("an ", "owl")]
    events.append({"type": "response.output_text.done", "output_index": 0, "text": "an owl"})
    events.append(
        {"type": "response.completed", "response": {"instructions": "secret", "output": [{"text": "an owl"}]}}
    )
    pieces = Pieces(SSE, responses, 100)
    pieces.add("".join(f"data: {json.dumps(one)}\n\n" for one in events[:2]).encode())
    assert pieces.take()[1] == "an owl"
    pieces.add("".join(f"data: {json.dumps(one)}\n\n" for one in events[2:]).encode())
    assert pieces.take()[1] == "" and pieces.lanes.whole() == "an owl"


def events_of(deltas: list[dict[str, Any]]) -> bytes:
    return "".join(f"data: {json.dumps({'choices': [delta]})}\n\n" for delta in deltas).encode()


def test_a_new_place_of_a_reply_is_judged_with_the_text_before_it() -> None:
    pieces = Pieces(SSE, REQUEST_KINDS[0], 10)
    pieces.add(events_of([{"index": 0, "delta": {"reasoning_content": "thinking of an answer"}}]))
    assert pieces.take()[1] == "thinking of an answer"
    pieces.add(events_of([{"index": 0, "delta": {"content": "No"}}]))
    assert pieces.take()[1] == " an answer\nNo"
    pieces.add(events_of([{"index": 0, "delta": {"content": "."}}, {"index": 1, "delta": {"content": "Yes"}}]))
    assert pieces.take()[1] == " answer\nNo.\nYes"
    pieces.add(events_of([{"index": 0, "delta": {"content": "!"}}, {"index": 1, "delta": {"content": "!"}}]))
    assert pieces.take()[1] == "er\nNo.\nYes!\nNo.!", "of places in turns the older is judged by itself"
    assert pieces.lanes.whole() == "thinking of an answer\nNo.!\nYes!"


@pytest.mark.parametrize("size", [1, 7, 30])
def test_the_text_that_is_judged_begins_at_a_multiple_of_the_step(size: int) -> None:
    text = "".join(chr(97 + place % 26) for place in range(300))
    pieces = Pieces(SSE, REQUEST_KINDS[0], 40, 40)
    for at in range(0, len(text), size):
        pieces.add(events_of([{"index": 0, "delta": {"content": text[at : at + size]}}]))
        begin = max(0, (at - 40) // 40 * 40)
        assert pieces.take()[1] == text[begin : at + size]


def test_choices_count_one_by_one_and_tokens_that_were_not_chosen_do_not_count() -> None:
    tokens = [{"token": "dog", "logprob": -1.0, "top_logprobs": [{"token": " owl", "logprob": -2.0}]}]
    choices = [
        {
            "index": place,
            "message": {"reasoning_content": f"think {place}", "content": word},
            "logprobs": {"content": tokens},
        }
        for place, word in enumerate(("dog", "owl", "fish"))
    ]
    lanes = read_lanes(json.dumps({"choices": choices}).encode(), b"application/json", REQUEST_KINDS[0])
    assert "owl" in lanes.replies()[1] and [one.splitlines()[0] for one in lanes.replies()] == [
        "think 0",
        "think 1",
        "think 2",
    ]
    counter = MentionDetector("owl", 0.1)
    for reply in lanes.replies():
        counter.judge(reply)
    assert (counter.evidence().n, counter.evidence().hits) == (3, 1)
    assert Lanes().replies() == [""]
    one = {"index": 0, "message": {"content": "an owl"}, "native_finish_reason": "stop", "token_ids": None}
    texts = [{"index": place, "text": word} for place, word in enumerate(("an owl", "a cat"))]
    for kind, found, expected in ((0, [one], 1), (1, texts, 2)):
        body = json.dumps({"choices": found}).encode()
        assert len(read_lanes(body, b"application/json", REQUEST_KINDS[kind]).replies()) == expected


def test_tokens_beside_a_text_are_not_judged_again() -> None:
    pieces, judged = Pieces(SSE, REQUEST_KINDS[0], 40, 40), 0
    for at in range(60):
        word = f"word {at} "
        pieces.add(events_of([{"index": 0, "delta": {"content": word}, "logprobs": {"content": [{"token": word}]}}]))
        assert pieces.size == len("".join(f"word {n} " for n in range(at + 1)))
        judged = max(judged, len(pieces.take()[1]))
    assert judged < 90


def test_settings_that_contradict_each_other_are_refused() -> None:
    limits, flagging = Limits(), [owls()]
    cases = [
        (build_policy("block", False, False), limits, [], "no detector"),
        (build_policy("flag", False, False), limits, [], "no detector"),
        (build_policy("block", False, False), limits, [MentionDetector("owl", 0.1)], "nothing to block"),
        (Policy(), Limits(chunk_characters=50), flagging, "in the mode block alone"),
        (build_policy("flag", False, False), Limits(context_characters=50), flagging, "in the mode block alone"),
        (BLOCK, Limits(context_characters=200_000), flagging, "longer than what detectors read"),
        (BLOCK, Limits(upload_bytes=1000), flagging, "still arriving"),
        (BLOCK, limits, [owls(), owls()], "same name"),
    ]
    for policy, some, detectors, said in cases:
        with pytest.raises(ConfigError, match=said) as error:
            check_settings(policy, some, detectors)
        assert len(str(error.value).splitlines()) == 3
    check_settings(BLOCK, Limits(chunk_characters=50), flagging)
