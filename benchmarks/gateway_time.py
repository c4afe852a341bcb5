"""Processor time a request: our proxy with detectors off and with a constitution, and LiteLLM's proxy, in one run.

    UNDERTOW_LITELLM=/path/to/python python benchmarks/gateway_time.py [requests]

All stand before the same upstream and get the same small chat requests, in turns of a hundred on one kept-alive
connection each. What counts is the time of the processes themselves and their children, from /proc, so other work on
the machine changes little. LiteLLM runs as it comes: one worker, no guardrail, no key.
"""

import http.client
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from gateways import chat_body, litellm, litellm_python, processor_s, undertow, upstream
from proxy import ASKED, write_constitution

TURN = 100
AIMS = {"detectors off": 8.0, "constitution": 6.0}


def burst(url: str) -> None:
    """Send a turn of requests on one connection; a server may close one that was idle during the others' turns."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    for _ in range(TURN):
        connection.request("POST", "/v1/chat/completions", chat_body(ASKED), {"content-type": "application/json"})
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == 200 and b"quiet" in body, (reply.status, body[:200])
    connection.close()


def main() -> None:
    """Print milliseconds of processor time, and how many times more LiteLLM takes."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    if (python := litellm_python()) is None:
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = stack.enter_context(upstream())
        write_constitution(folder / "constitution.yaml")
        judged = ("--mode", "block", "--detector", f"constitution:{folder / 'constitution.yaml'}")
        ways = {
            "detectors off": undertow("serve", "--upstream", target, "--events", str(folder / "a.sqlite")),
            "constitution": undertow("serve", "--upstream", target, "--events", str(folder / "b.sqlite"), *judged),
            "LiteLLM": litellm(python, folder, target),
        }
        running = {name: stack.enter_context(way) for name, way in ways.items()}
        taken: dict[str, list[float]] = {name: [] for name in running}
        for _, url in running.values():
            burst(url)
        for _ in range(max(1, requests // TURN)):
            for name, (process, url) in running.items():
                before = processor_s(process.pid)
                burst(url)
                taken[name].append(1000 * (processor_s(process.pid) - before) / TURN)
    means = {name: statistics.fmean(some) for name, some in taken.items()}
    for name, some in taken.items():
        spread = statistics.stdev(some) if len(some) > 1 else 0.0
        print(f"{name}: {means[name]:.2f} ms a request, SD of turns {spread:.2f}, n = {TURN * len(some)}")
    for name, aim in AIMS.items():
        print(f"LiteLLM takes {means['LiteLLM'] / means[name]:.1f} times as much as {name} (aim {aim:g})")


if __name__ == "__main__":
    main()
