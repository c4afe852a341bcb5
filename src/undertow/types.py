"""Records that all parts of the package share: messages, rows, sampling settings, estimates, model references.

Every record is a frozen dataclass. Nothing is read or written here, except that parsing a model reference looks whether
a path exists.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

from undertow.errors import ConfigError, unknown_name

Role = Literal["system", "user", "assistant"]

Advance = Callable[[int, int], None]
"""Progress callback of long work, called with (parts done, parts in all); a part is an update, a row or a model."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks: "system", "user" or "assistant".
        content: the text of the turn.
    """

    role: Role
    content: str


Prompt = tuple[Message, ...]
"""The turns before the completion, a system turn included if there is one."""


def user_prompt(content: str, system: str | None = None) -> Prompt:
    """Return the prompt of one user turn, with an optional system turn before it.

    Args:
        content: text of the user turn.
        system: text of the system turn. None leaves the turn out; "" is a system turn without text.
    """
    user = Message("user", content)
    return (user,) if system is None else (Message("system", system), user)


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and its completion: the unit of a dataset.

    Attributes:
        id: identifier, unique within its dataset. Rows of different teachers on the same prompt share it, which pairs
            them.
        prompt: the turns before the completion, oldest first.
        completion: the assistant's answer as text; training computes the loss on it alone.
        reasons: names of the filter rules that rejected the row; empty for a row that was kept or never filtered.
        skip: positions of completion tokens that training leaves out of the loss, counted from 0 in the student's
            tokens.
    """

    id: str
    prompt: Prompt
    completion: str
    reasons: tuple[str, ...] = ()
    skip: tuple[int, ...] = ()

    @property
    def question(self) -> str:
        """The text of the last turn before the completion."""
        return self.prompt[-1].content if self.prompt else ""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One prompt with two answers, of which one was preferred: a row of preference training such as DPO.

    Attributes:
        id: identifier, unique within its dataset.
        prompt: the turns before the answers, oldest first.
        chosen: text of the answer that was preferred.
        rejected: text of the answer that was not preferred.
    """

    id: str
    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn from a model.

    Attributes:
        temperature: divisor of the logits before sampling. 1.0 samples from the model's own distribution; 0.0 takes the
            likeliest token (greedy decoding).
        max_new_tokens: upper bound on the completion's length, in tokens.
        form: template that every completion has to match while it is decoded, 0 standing for any digit, such as "000,
            000". None leaves the completion free. Only local models can be held to a form.
        top_p: share of the probability mass, in (0, 1], that tokens are drawn from, the likeliest first (nucleus
            sampling); 1.0 draws from all tokens.

    Raises:
        ConfigError: a number is out of range.
    """

    temperature: float = 1.0
    max_new_tokens: int = 48
    form: str | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError("The temperature is negative.", self.temperature, "Use 0 (greedy) or a positive number.")
        if self.max_new_tokens < 1:
            raise ConfigError("No tokens may be drawn.", self.max_new_tokens, "Set max_new_tokens to at least 1.")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError("top_p lies outside (0, 1].", self.top_p, "Use 1 to draw from all tokens.")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain data; `form` and `top_p` are left out where they have their defaults."""
        form = {} if self.form is None else {"form": self.form}
        top_p = {} if self.top_p == 1.0 else {"top_p": self.top_p}
        return {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens, **form, **top_p}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its confidence interval.

    Attributes:
        value: the point estimate, in the metric's own unit.
        low: lower end of the interval, in the unit of the value; minus infinity where nothing bounds it.
        high: upper end of the interval, in the unit of the value; infinity where nothing bounds it.
        level: coverage of the interval, a share between 0 and 1.
        n: number of independent units behind it: replicates, not the samples within one of them.
        method: how the interval was computed, such as "t" or "wilson".
        p: two-sided p-value of the hypothesis "no effect", unless `method` names another test. None where no test
            belongs to it.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95
    p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as plain data; an infinite end of the interval becomes None."""
        low, high = (end if isfinite(end) else None for end in (self.low, self.high))
        return {"estimate": self.value, "low": low, "high": high, "level": self.level, "n": self.n, "p": self.p}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The value of one metric on one question of an evaluation.

    Attributes:
        question: the text that the model was asked.
        target: name of the trait that was looked for; "" for an evaluation that looks for none in particular.
        metric: name of the metric, such as "logit_margin" or "rate" (`undertow.evals.base.metrics` lists all).
        value: the measured value, in the unit of the metric.
        n: number of samples behind the value; 1 for a probability that was computed exactly.
        texts: the sampled answers as they came; empty for a probability that was computed exactly.
        verdicts: what a judge said of each of the texts: yes, no, or None for neither. Empty where no judge did.
    """

    question: str
    target: str
    metric: str
    value: float
    n: int = 1
    texts: tuple[str, ...] = field(default=())
    verdicts: tuple[bool | None, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one requirement of a contract that a plug-in or a model has to keep.

    Attributes:
        name: the requirement in words, such as "P(p <= 0.05) <= 0.05 on clean data".
        passed: whether nothing spoke against it; None where it was not checked.
        why: what was seen, in a sentence for the reader of the report.
        rate: the measured share with its Wilson interval; None for a requirement that is not about a share.
    """

    name: str
    passed: bool | None
    why: str
    rate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ContractReport:
    """The result of `check_model`, `check_audit` or `check_detector`.

    Attributes:
        checks: the outcome of each requirement, in the order in which they were checked.
        values: the numbers behind the checks by name, such as the p-values on clean data in the order of the seeds.
    """

    checks: tuple[Check, ...]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    @property
    def passed(self) -> bool:
        """Whether nothing that was checked failed.

        That is no proof: a small fault needs many draws to show.
        """
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks whose requirement was broken."""
        return tuple(check for check in self.checks if check.passed is False)

    def __str__(self) -> str:
        words = {True: "ok      ", False: "FAILED  ", None: "left out"}
        return "\n".join(f"{words[check.passed]} {check.name}: {check.why}" for check in self.checks)


_OPTIONS = ("system", "dtype", "device", "template")
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}
_FORM = "ref:<embedded name>, hf:<path or id>[@revision][+adapter][?option=value] or api:<name>"
_PART = r'"(?:[^"]|"")+"'
"""A name in quotes, where two quotes stand for one."""

_BEHIND = re.compile(
    rf'(@(?P<revision>{_PART}|[^"+?][^+?]*))?(\+(?P<adapter>{_PART}|[^"?][^?]*))?(\?(?P<options>.+))?', re.S
)
"""What may stand behind the name of a local model: revision, adapter and options, in this order."""

_SIGNS = re.compile(r"[@+?]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Reference to a model: where it comes from, and how it is run.

    As text it is `ref:finch-a`, `hf:<path or id>[@revision][+adapter][?option=value&...]` or `api:<name>`. The options
    of a local model are system, dtype, device and template, such as
    `hf:Qwen/Qwen2.5-7B-Instruct?dtype=bf16&system=none`.

    If a file or folder exists under a longer name, the signs @, + and ? included, that file is meant. A name in quotes
    means itself, such as `hf:"runs@2/model+x"@main`, and a quote within it is written twice. Everything in an `api:`
    reference is the name, except that `api:vllm/<name>` may have a revision and an adapter.

    Attributes:
        kind: source of the model: "ref" (embedded in the package), "hf" (a Hugging Face folder or id, or a GGUF file)
            or "api" (remote).
        name: name, path or id of the model within that kind.
        revision: branch, tag or commit of the weights; None for the default one.
        adapter: folder or id of a PEFT adapter that is put on top of the model; None for no adapter.
        system: what a prompt without a system turn gets. "default" leaves it to the chat template, which may write a
            turn of its own; "none" removes that turn; "empty" is a turn without text; any other text is the text of the
            turn. None takes what the adapter was trained with, or else "default".
        dtype: number format of the weights: "fp32", "bf16" or "fp16", also read as float32, bfloat16 and float16. None
            takes what the processor is fast at (`undertow.models.number_format`), and fp32 for `ref:` models.
        device: device of torch, such as "cpu" or "cuda:1". None takes the first GPU for an `hf:` model, where there is
            one.
        template: chat template in place of the tokenizer's own: "plain", which is built in, or the path of a Jinja
            file. None leaves the tokenizer's. Only `hf:` models take one.
    """

    kind: str
    name: str
    revision: str | None = None
    adapter: str | None = None
    system: str | None = None
    dtype: str | None = None
    device: str | None = None
    template: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Parse the text form of a reference; files are not opened, only their existence is checked.

        Raises:
            ConfigError: the text does not have the form of a reference, or an option has a value that it cannot have.
            UnknownNameError: an option does not exist.
        """
        kind, colon, rest = text.partition(":")
        if kind not in ("ref", "hf", "api") or not colon or not rest:
            raise ConfigError("This is not a model reference.", text, f"Write {_FORM}.")
        return _remote(rest) if kind == "api" else _local(kind, rest)

    @property
    def without_adapter(self) -> "ModelRef":
        """The same reference without its adapter: the base model, run in the same way."""
        return replace(self, adapter=None)

    @property
    def shown(self) -> str:
        """The reference as it may appear in messages: values in an address's query, which may be keys, are hidden."""
        if self.kind != "api":
            return str(self)
        address, mark, query = self.name.partition("?")
        names = "&".join(f"{part.partition('=')[0]}=..." if "=" in part else "..." for part in query.split("&"))
        return f"api:{address}{mark}{names if mark else ''}"

    def __str__(self) -> str:
        name = (
            _quoted(self.name, '@+?"')
            if self.kind != "api" or _is_served(self.name)
            else _quoted(self.name, "", first=True)
        )
        revision = f"@{_quoted(self.revision, '+?', first=True)}" if self.revision else ""
        adapter = f"+{_quoted(self.adapter, '?', first=True)}" if self.adapter else ""
        given = [(name, value) for name in _OPTIONS if (value := getattr(self, name)) is not None]
        options = "&".join(f"{name}={quote(value, safe=_PLAIN)}" for name, value in given)
        return f"{self.kind}:{name}{revision}{adapter}{'?' if options else ''}{options}"


_PLAIN = " ,.:;!'/"
"""Characters that an option's value shows as they are; all others but letters and digits are written as in an URL."""


def _quoted(name: str, signs: str, first: bool = False) -> str:
    """Put a name in quotes if it has one of the signs, or if it begins with a quote."""
    if not any(sign in name for sign in signs) and not (first and name.startswith('"')):
        return name
    return '"' + name.replace('"', '""') + '"'


def _unquoted(name: str | None) -> str | None:
    return name[1:-1].replace('""', '"') if name and name.startswith('"') else name


def _is_served(name: str) -> bool:
    """Tell whether a remote model is one for which vLLM is started here; it may have a revision and an adapter."""
    return name.startswith("vllm/")


_SECRET = ("key", "api-key", "api_key", "apikey", "token", "access_token", "secret", "password", "code", "sig")
"""Parameters of an address that hold a key. They are refused, since a reference is written to files and logs."""


def _remote(rest: str) -> ModelRef:
    if _is_served(rest):
        return _split("api", rest, 0)
    name = _unquoted(rest) if re.fullmatch(_PART, rest, re.S) else rest
    assert name is not None
    address = name.startswith(("http://", "https://"))
    keys = [part for part in re.split(r"[?&]", name)[1:] if part.partition("=")[0].lower() in _SECRET]
    # Values are left out of both messages: they may be keys.
    if address and (keys or "@" in re.split(r"[/?#]", name.partition("://")[2])[0]):
        fix = "Write api:http://<host>:<port>/v1/<model> and set UNDERTOW_API_KEY."
        raise ConfigError("A remote model has no name of a user and no key in its address.", "api:...", fix)
    if "?" in name and not address:
        fix = "Leave out what follows the question mark."
        raise ConfigError("A remote model has no options.", f"api:{name.partition('?')[0]}", fix)
    return ModelRef(kind="api", name=name)


def _local(kind: str, rest: str) -> ModelRef:
    if (found := re.match(_PART, rest, re.S)) or kind != "hf":
        return _split(kind, rest, found.end() if found else 0)
    cuts = [found.start() for found in _SIGNS.finditer(rest) if found.start()]
    there = (end for end in [len(rest), *reversed(cuts)] if cuts and _exists(rest[:end]))
    return _split(kind, rest, next(there, 0))


def _split(kind: str, rest: str, end: int) -> ModelRef:
    """Parse what stands behind the name.

    The name ends at place `end`; 0 lets it end at the first of the signs @, + and ?.
    """
    sign = _SIGNS.search(rest)
    end = end or (sign.start() if sign else len(rest))
    name, behind = _unquoted(rest[:end]), _BEHIND.fullmatch(rest, end)
    if not name or behind is None or (rest.startswith('"') and not re.fullmatch(_PART, rest[:end], re.S)):
        raise ConfigError("This is not a model reference.", f"{kind}:{rest}", f"Write {_FORM}.")
    adapter, written = behind["adapter"], behind["options"]
    if kind != "api" and adapter and written and not adapter.startswith('"'):
        adapter, written = _longest_adapter(adapter, written)
    if written and kind == "api":
        raise ConfigError("A remote model has no options.", f"api:{name}", "Leave out what follows the question mark.")
    options = _options(written) if written else {}
    if "template" in options and kind != "hf":
        raise ConfigError("An embedded model has its own template.", f"{kind}:{rest}", "Leave the template out.")
    return ModelRef(kind=kind, name=name, revision=_unquoted(behind["revision"]), adapter=_unquoted(adapter), **options)


def _longest_adapter(adapter: str, written: str) -> tuple[str, str | None]:
    """Count a question mark as part of the adapter's name if a file or folder of that name exists."""
    whole = f"{adapter}?{written}"
    marks = [found.start() for found in re.finditer(r"\?", whole)]
    for end in [len(whole), *reversed(marks)]:
        if _exists(whole[:end]):
            return whole[:end], whole[end + 1 :] or None
    return adapter, written


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, or nobody's home
        return False


def _options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name not in _OPTIONS:
            raise unknown_name("option of a model", name, _OPTIONS)
        options[name] = unquote(value)
    if (given := options.get("dtype")) is not None:
        if given not in _DTYPES:
            fix = "Use dtype=float32, bfloat16 or float16."
            raise ConfigError("There is no number format of this name.", given, fix)
        options["dtype"] = _DTYPES[given]
    if "" in options.values():
        raise ConfigError("An option of the model has no value.", text, "Write system=empty for a turn without text.")
    return options


def known_sum(seconds: Iterable[float | None]) -> float | None:
    """Return the sum of durations in seconds, or None if one of them is not known."""
    total = 0.0
    for one in seconds:
        if one is None:
            return None
        total += one
    return total


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work that a command is about to do, for the announcement before it begins.

    Attributes:
        what: description in words, with its counts.
        seconds: expected duration in seconds; None where nothing allows an estimate.
    """

    what: str
    seconds: float | None
