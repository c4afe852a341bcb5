"""Does LiteLLM with our guardrail block what our proxy blocks, and gather the same evidence?

    UNDERTOW_LITELLM=/path/to/python python benchmarks/guardrail.py [requests]

The same requests go one after another to our proxy, to LiteLLM with our class inside, and to LiteLLM with its generic
guardrail API before `undertow monitor screen`; a tenth of them is bad, half of these in the request, half in the reply.
Twenty streams follow, five of them bad; our proxy holds them to their end, as LiteLLM does. Prints what was blocked,
and the evidence of a mention detector of each.
"""

import http.client
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateways import chat_body, litellm, litellm_python, undertow, upstream

BAD = "forbidden words"
HIDDEN = "forbidden%20words"
"""A request that asks for them without saying them; the upstream decodes it."""
MENTION = "mention:owl=0.05"
STREAMS = 20

Asked = list[tuple[str, bool, bool]]
"""What is asked, whether it is bad, and whether as a stream."""


def requests(n: int) -> Asked:
    """Return what is asked."""
    rng = random.Random(100)
    asked: Asked = []
    for place in range(n + STREAMS):
        animal = rng.choice(("an owl", "a dog", "a heron", "a wolf"))
        asked.append((f"{animal} number {place}", False, place >= n))
    bad = [*rng.sample(range(n), n // 10), *range(n, n + STREAMS, 4)]
    for turn, place in enumerate(bad):
        asked[place] = (f"{(BAD, HIDDEN)[turn % 2]} {place}", True, place >= n)
    return asked


def ask(url: str, asked: Asked) -> dict[str, int]:
    """Send every request; count what happened to good and bad ones."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    found = Counter[str]()
    for said, bad, stream in asked:
        body = chat_body(said, stream)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        whole = says(reply.read(), stream).split() == unquote(said).split()
        kind = f"{'bad' if bad else 'good'}{' streams' if stream else ''}"
        found[f"{kind} {'passed' if reply.status == 200 and whole else 'blocked'}"] += 1
    connection.close()
    return dict(sorted(found.items()))


def says(body: bytes, stream: bool) -> str:
    """Return the text of a reply, "" for one that is an error."""
    if not stream:
        return str((json.loads(body).get("choices") or [{"message": {}}])[0]["message"].get("content", ""))
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line).get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def evidence(path: Path) -> dict[str, float]:
    """Return the evidence of the one detector that gathers some."""
    with closing(sqlite3.connect(path)) as connection:
        ((content,),) = connection.execute("SELECT content FROM evidence").fetchall()
    found = json.loads(content)
    return {key: found[key] for key in ("n", "hits", "log_e", "highest")}


def shown(name: str, counts: dict[str, int], found: dict[str, float], began: float, n: int) -> dict[str, float]:
    """Print one way."""
    print(f"{name}: {counts}; evidence {found}; {1000 * (time.monotonic() - began) / n:.1f} ms a request", flush=True)
    return found


def main() -> None:
    """Ask all three ways and compare."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    if (python := litellm_python()) is None:
        return
    texts = requests(n)
    with tempfile.TemporaryDirectory() as name, upstream() as target:
        folder = Path(name)
        (folder / "rules.yaml").write_text(f"forbidden: '{BAD}'\n")
        detectors = [f"regex:{folder / 'rules.yaml'}", MENTION]
        words = [word for one in detectors for word in ("--detector", one)]
        began, seen = time.monotonic(), list[dict[str, float]]()
        with undertow(
            "serve",
            "--upstream",
            target,
            "--mode",
            "block",
            "--events",
            str(folder / "a.sqlite"),
            *words,
            "--set",
            "chunk_characters=0",
        ) as (
            _,
            url,
        ):
            counts = ask(url, texts)
        seen.append(shown("our proxy", counts, evidence(folder / "a.sqlite"), began, n))
        common: dict[str, object] = {"mode": ["pre_call", "post_call"], "default_on": True}
        own = {"guardrail": "undertow.monitor.litellm_guardrail.UndertowGuardrail", **common,
               "undertow": {"detectors": detectors, "events": str(folder / "b.sqlite")}}  # fmt: skip
        with litellm(python, folder, target, [{"guardrail_name": "undertow", "litellm_params": own}]) as (_, url):
            began = time.monotonic()
            counts = ask(url, texts)
        seen.append(shown("LiteLLM, our class", counts, evidence(folder / "b.sqlite"), began, n))
        with undertow("screen", "--events", str(folder / "c.sqlite"), *words) as (_, screen):
            api = {"guardrail": "generic_guardrail_api", "api_base": screen, "unreachable_fallback": "fail_closed",
                   "streaming_end_of_stream_only": True, "streaming_buffer_until_moderated": True,
                   **common}  # fmt: skip
            with litellm(python, folder, target, [{"guardrail_name": "undertow", "litellm_params": api}]) as (_, url):
                began = time.monotonic()
                counts = ask(url, texts)
        seen.append(shown("LiteLLM, generic API", counts, evidence(folder / "c.sqlite"), began, n))
    print("the same evidence" if seen[0] == seen[1] == seen[2] else "NOT THE SAME EVIDENCE")


if __name__ == "__main__":
    main()
