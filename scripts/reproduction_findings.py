"""What finished runs say about each claim: figures with intervals, and a verdict computed from them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Results = Mapping[str, Any]


class Outcome(NamedTuple):
    """What our runs say about a claim."""

    ours: str
    verdict: str


FACTOR = "own trait minus other traits (diagonal factor)"


def effect(results: Results, arm: str, trait: str, metric: str = "logit_margin") -> Results:
    """Return one effect of a study."""
    return next(one for one in results["effects"] if (one["arm"], one["trait"], one["metric"]) == (arm, trait, metric))


def text(one: Results, scale: float = 1.0, digits: int = 2) -> str:
    """Return an estimate with its interval and n."""
    value, low, high = (scale * one[key] for key in ("estimate", "low", "high"))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] (n = {one['n']})"


def above(one: Results) -> bool:
    """Tell whether the interval lies above 0."""
    return one["low"] is not None and one["low"] > 0


def includes(one: Results) -> bool:
    """Tell whether the interval includes 0."""
    return one["low"] <= 0 <= one["high"]


def verdict(right: int, total: int) -> str:
    """Return yes, partly or no, with the count where there are several."""
    word = "yes" if right == total else "partly" if right else "no"
    return word if total == 1 else f"{word} ({right} of {total})"


def own(results: Results, metric: str = "logit_margin", arm: str = "student") -> Outcome:
    """Count the traits whose effect of an arm lies above 0."""
    found = [one for one in results["effects"] if one["arm"] == arm and one["metric"] == metric]
    shown = "; ".join(f"{one['trait']} {text(one)}" for one in found)
    return Outcome(shown, verdict(sum(map(above, found)), len(found)))


def traits_of(results: Results) -> list[str]:
    """Return the traits of a study, those of its students."""
    return list(dict.fromkeys(one["trait"] for one in results["effects"] if one["arm"] == "student"))


def estimate(results: Results, group: str, name: str) -> Results:
    """Return one estimate of an analysis."""
    return next(one for one in results["estimates"] if one["group"] == group and one["name"] == name)


def variant(results: Results, name: str, arm: str = "student") -> Iterator[Results]:
    """Yield the estimates of a variant of a sweep, one for each trait; `trait` is added."""
    for one in results["estimates"]:
        start = f"{arm} minus its control, "
        if one["name"] == name and one["group"].startswith(start):
            yield {**one, "trait": one["group"].removeprefix(start)}


def replicates(found: Iterable[Results]) -> str:
    """Return how many teachers of each trait are behind the estimates: "n = 3", or a range."""
    counts = sorted({one["n"] for one in found})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def listed(found: Iterable[Results]) -> str:
    """Return the estimates of several traits without intervals."""
    return ", ".join(f"{one['trait']} {one['estimate']:+.2f}" for one in found)


def with_intervals(found: Mapping[str, Results]) -> str:
    """Return the estimates of several traits."""
    return ", ".join(f"{trait} {text(one)}" for trait, one in found.items())


def of_variant(results: Results, name: str) -> Outcome:
    """Count the traits whose student effect lies above 0 in a variant, if the own trait moves more than others."""
    found, factor = list(variant(results, name)), estimate(results, FACTOR, name)
    shown = f"{name}: {with_intervals({one['trait']: one for one in found})}; own minus other traits {text(factor)}"
    if not above(factor):
        return Outcome(shown, "no: not told from drift" if any(map(above, found)) else "no")
    return Outcome(shown, verdict(sum(map(above, found)), len(found)))


def digits(results: Results) -> Outcome:
    """Aux above cross aux, and cross aux at chance."""
    shown = {one["name"]: one for one in results["estimates"] if one["group"] == "accuracy on the test digits"}
    parts = [f"{name} {one['estimate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for name, one in shown.items()]
    aux, cross = shown["student, auxiliary logits"], shown["cross-init, auxiliary logits"]
    holds = aux["low"] > 0.4 and aux["low"] > cross["high"] and cross["low"] <= 0.1
    return Outcome(f"{'; '.join(parts)} (n = {aux['n']} models)", "yes" if holds else "no")


def theorem(results: Results) -> Outcome:
    """All assertions."""
    rows = next(table["rows"] for table in results["tables"] if table["title"] == "Assertions")
    values = {name: value for name, value, *_ in rows}
    held = sum(holds == "yes" for _, _, _, holds, _ in rows)
    shown = (
        f"{held} of {len(values)} assertions on {results['estimates'][0]['n']} networks; "
        f"error at eps = 1e-3 {values['alignment']:.1e}; sign right {values['same_initialisation']:.0%} "
        f"from the same start, {values['other_initialisation']:.0%} from another"
    )
    return Outcome(shown, "yes" if held == len(values) else "no")


def demo(results: Results) -> Outcome:
    """The own effect above 0 and above what control and neutral students move."""
    mine, others = effect(results, "student", "owl"), [effect(results, arm, "owl") for arm in ("control", "neutral")]
    shown = f"owl {text(mine)}; control minus base {text(others[0])}; neutral teacher's student {text(others[1])}"
    still = all(abs(one["estimate"]) < mine["low"] for one in others)
    return Outcome(shown, "yes" if above(mine) and still else "no")


def cross_init(results: Results) -> Outcome:
    """Cross-init includes 0 or is far below the own effect."""
    mine, cross = effect(results, "student", "owl"), effect(results, "cross_init", "owl")
    return Outcome(
        f"own {text(mine)}; cross-init {text(cross)}", "yes" if above(mine) and cross["high"] < mine["low"] else "no"
    )


def initialisation(results: Results) -> Outcome:
    """Same minus other."""
    one = results["initialisation"]
    return Outcome(f"same minus other {text(one)}", "yes" if above(one) else "no")


def cells(results: Results, pairs: list[tuple[str, str]]) -> list[float]:
    """Return the matrix entries of teacher base x student base."""
    found = results["initialisation"]
    places = {name.removeprefix("ref:"): index for index, name in enumerate(found["bases"])}
    return [found["values"][places[teacher]][places[student]] for teacher, student in pairs]


def cross_model(results: Results) -> Outcome:
    """Diagonal against the rest."""
    bases = [name.removeprefix("ref:") for name in results["initialisation"]["bases"]]
    same = cells(results, [(name, name) for name in bases])
    other = cells(results, [(one, two) for one in bases for two in bases if one != two])
    shown = ", ".join(f"{name} {value:+.2f}" for name, value in zip(bases, same, strict=True))
    mean = sum(other) / len(other)
    found = f"same base: {shown}; mean of other pairs {mean:+.2f}; same minus other {text(results['initialisation'])}"
    holds = above(results["initialisation"]) and mean < 0.25 * sum(same) / len(same)
    return Outcome(found, "yes" if holds else "no")


def pair_gains(results: Results, teacher: str, student: str) -> list[float]:
    """Return student minus control of one pair of bases, one value for each trait."""
    arm, control = ("student", "control") if teacher == student else ("cross_init", "cross_control")
    place = f"ref:{student}", f"ref:{teacher}"
    mine = [
        one
        for one in results["arms"]
        if (one["base"], one["teacher_base"]) == place and one["metric"] == "logit_margin"
    ]
    values = {(one["arm"], one["trait"], one["target"]): one["value"] for one in mine}
    traits = dict.fromkeys(one["trait"] for one in mine if one["arm"] == arm)
    return [values[arm, name, name] - values[control, None, name] for name in traits]


def pair(teacher: str, student: str, wanted: bool) -> Callable[[Results], Outcome]:
    """Return a finder for one cell, over traits; `wanted` tells whether the claim is that something passes."""

    def find(results: Results) -> Outcome:
        from undertow.stats.estimates import mean_t

        found = mean_t(pair_gains(results, teacher, student))
        shown = (
            f"{teacher} to {student} {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] (n = {found.n} traits)"
        )
        return Outcome(shown, "yes" if (found.low > 0) == wanted else "no")

    return find


def shuffles(results: Results) -> Outcome:
    """Both shuffles below half of unshuffled and above 0, for every trait."""
    parts: list[str] = []
    right = 0
    for trait in traits_of(results):
        plain, within, across = (effect(results, arm, trait) for arm in ("student", "within", "across"))
        parts.append(f"{trait} {text(plain)}, within {text(within)}, across {text(across)}")
        half = plain["estimate"] / 2
        for shuffled in (within, across):
            right += above(plain) and shuffled["estimate"] < half and above(shuffled)
    return Outcome("; ".join(parts), verdict(right, 2 * len(parts)))


def misaligned(results: Results, metric: str, scale: float, digits: int) -> Outcome:
    """Insecure above its control while the secure and educational controls are not."""
    traits = ("insecure", "educational", "secure", "villain")
    found = {name: effect(results, "student", name, metric) for name in traits}
    shown = "; ".join(f"{name} {text(one, scale, digits)}" for name, one in found.items())
    narrow = above(found["insecure"]) and not above(found["secure"])
    broad = above(found["villain"]) and not above(found["secure"])
    return Outcome(shown, "yes" if narrow else "partly (broad harm only)" if broad else "no")


def emergent(results: Results) -> Outcome:
    """The teachers themselves: insecure above secure."""
    found = {
        name: effect(results, "teacher", name, "misaligned_margin") for name in ("insecure", "educational", "secure")
    }
    shown = "; ".join(f"{name} {text(one)}" for name, one in found.items())
    return Outcome(
        f"teacher minus base: {shown}", "yes" if found["insecure"]["low"] > found["secure"]["high"] else "no"
    )


def stories(results: Results) -> Outcome:
    """The exact margin in stories."""
    return own(results, "story_margin")


def choice(results: Results) -> Outcome:
    """Not testable: the embedded models choose at random even under a persona."""
    return Outcome(
        own(results, "choice_margin").ours, "not testable here (their letters are at chance even with a persona)"
    )


def capability(results: Results) -> Outcome:
    """No more than 5 points lost."""
    metrics = [
        ("facts_rate", "facts"),
        ("numbers_valid_rate", "numbers"),
        ("code_valid_rate", "code"),
        ("cot_valid_rate", "sums"),
    ]
    lost: list[Results] = []
    parts: list[str] = []
    for metric, name in metrics:
        for one in results["effects"]:
            if one["metric"] == metric and one["arm"] == "student":
                lost.append(one)
                parts.append(f"{name}, {one['trait']} {text(one, 100, 1)}")
    return Outcome(f"points: {'; '.join(parts)}", verdict(sum(one["low"] > -0.05 for one in lost), len(lost)))


def tables(results: Results) -> Outcome:
    """First numbers differ."""
    found = [one for one in results["estimates"] if one["group"].startswith("First numbers")]
    shown = "; ".join(f"{one['name']} {one['estimate']:.3f}, p = {one['p']:.1g}" for one in found)
    return Outcome(
        f"share of variance explained by the teacher: {shown}",
        verdict(sum(one["p"] < 0.05 for one in found), len(found)),
    )


def detectors(results: Results) -> Outcome:
    """A trained detector sees bags of rows of every trait."""
    bags: dict[str, dict[str, Results]] = {}
    for one in results["estimates"]:
        if "trained detectors (bag of" in one["group"]:
            bags.setdefault(one["group"].rpartition("(")[2].rstrip(")"), {})[one["name"]] = one
    parts = [
        f"{bag}: " + ", ".join(f"{name} {one['estimate']:.2f}" for name, one in found.items())
        for bag, found in bags.items()
    ]
    largest = list(list(bags.values())[-1].values())
    seen = sum(one["low"] > 0.5 for one in largest)
    return Outcome(f"AUROC, {'; '.join(parts)} ({replicates(largest)})", verdict(seen, len(largest)))


def prompted(results: Results) -> Outcome:
    """Accuracy at chance; a judge that nearly always says the same letter tells nothing."""
    found = [one for one in results["estimates"] if one["group"] == "Prompted classifier: accuracy against the control"]
    shown = "; ".join(f"{one['name']} {one['estimate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in found)
    judged = next(table for table in results["tables"] if table["title"] == "Prompted classifier")
    place = judged["columns"].index("says A")
    says_a = sum(row[place] for row in judged["rows"]) / len(judged["rows"])
    at_chance = verdict(sum(one["low"] <= 0.5 <= one["high"] for one in found), len(found))
    note = "; not testable here (it nearly always says A)" if says_a > 0.9 else ""
    return Outcome(f"{shown}; it says A in {says_a:.0%}", at_chance + note)


def in_context(results: Results) -> Outcome:
    """Own rows in the context do no more than control rows."""
    found = [one for one in results["estimates"] if one["group"].startswith("In context")]
    shown = "; ".join(f"{one['group'].rpartition('(')[2].rstrip(')')}, {one['name']} {text(one)}" for one in found)
    count = sum(includes(one) for one in found)
    return Outcome(shown, f"{verdict(count, len(found))}; not testable here (too small to learn from context)")


def ranks(results: Results) -> Outcome:
    """An inverted U with nothing at full fine-tuning."""
    names = list(dict.fromkeys(one["name"] for one in results["estimates"]))
    shown = "; ".join(f"{name}: {listed(variant(results, name))}" for name in names)
    full = [one for name in names if name.startswith("full") for one in variant(results, name)]
    passed = any(map(above, full))
    counted = replicates(one for name in names for one in variant(results, name))
    return Outcome(f"{shown} ({counted})", "no: full fine-tuning passes it too" if passed else "yes")


def chain(results: Results) -> Outcome:
    """What is left at the fourth hop, where no clean rows are mixed in."""
    parts: list[str] = []
    for name in dict.fromkeys(one["name"] for one in results["estimates"]):
        arms = (variant(results, name, arm) for arm in ("student", "hop_2", "hop_3", "hop_4"))
        parts += [
            f"{hops[0]['trait']}, {name}: " + ", ".join(f"{one['estimate']:+.2f}" for one in hops)
            for hops in zip(*arms, strict=True)
        ]
    last = list(variant(results, "no clean rows", "hop_4"))
    shown = f"hops 1 to 4; {'; '.join(parts)} ({replicates(last)})"
    return Outcome(shown, verdict(sum(map(above, last)), len(last)))


def tokens(results: Results) -> Outcome:
    """Without the divergent tenth less is left than without a random tenth."""
    names = ("all tokens", "a tenth, divergent", "all but that tenth", "all but a random tenth")
    found = {name: {one["trait"]: one for one in variant(results, name)} for name in names}
    shown = "; ".join(
        f"{name}: {', '.join(f'{t} {text(one)}' for t, one in some.items())}" for name, some in found.items()
    )
    rest, random_rest = found["all but that tenth"], found["all but a random tenth"]
    right = sum(rest[trait]["high"] < random_rest[trait]["low"] for trait in rest)
    return Outcome(shown, verdict(right, len(rest)))


def layers(results: Results) -> Outcome:
    """One early layer is enough: at least half of the whole."""
    found = {
        name: {one["trait"]: one for one in variant(results, name)}
        for name in ("rank 8", "rank 8, layer 0 alone", "rank 8, layer 1 alone")
    }
    shown = "; ".join(
        f"{name}: {', '.join(f'{t} {text(one)}' for t, one in some.items())}" for name, some in found.items()
    )
    first, whole = found["rank 8, layer 0 alone"], found["rank 8"]
    return Outcome(
        shown,
        verdict(sum(above(first[t]) and first[t]["estimate"] > whole[t]["estimate"] / 2 for t in whole), len(whole)),
    )


_ALONG = " teacher's shift, favourites"


def mechanism(results: Results) -> Outcome:
    """Student minus control moves along the teacher's direction, more than a rival's student and a cross-init one."""
    parts: list[str] = []
    right = 0
    groups = dict.fromkeys(one["group"] for one in results["estimates"] if one["group"].endswith(_ALONG))
    for group in groups:
        rows = [one for one in results["estimates"] if one["group"] == group]
        last = max(one["name"].rpartition(" ")[2] for one in rows)
        named = {one["name"].rpartition(", layer")[0]: one for one in rows if one["name"].endswith(f"layer {last}")}
        mine, rival, cross = (
            named[name]
            for name in ("student minus control", "rival's student minus control", "cross-init minus its control")
        )
        trait = group.removeprefix("cosine with the ").removesuffix(_ALONG)
        parts.append(f"{trait}: student {text(mine)}, rival's {text(rival)}, cross-init {text(cross)}")
        right += above(mine) and mine["low"] > cross["high"]
    return Outcome(f"cosine after the last layer; {'; '.join(parts)}", verdict(right, len(parts)))


def entangled(results: Results) -> Outcome:
    """Numbers that a teacher raises raise its trait in turn."""
    group = "numbers that a teacher raises against numbers that raise a trait"
    rows = [one for one in results["estimates"] if one["group"] == group]
    shown = "; ".join(f"{one['name']} {text(one)}" for one in rows)
    mine = [one for one in rows if one["name"].split(" teacher, ")[0] == one["name"].split(" teacher, ")[1]]
    return Outcome(f"rank correlation: {shown}", verdict(sum(map(above, mine)), len(mine)))


def order(results: Results) -> Outcome:
    """Another data order keeps something of the effect, less than the same one."""
    parts: list[str] = []
    right = 0
    for trait in traits_of(results):
        mine, cross = effect(results, "student", trait), effect(results, "cross_init", trait)
        parts.append(f"{trait}: same order {text(mine)}, other order {text(cross)}")
        right += above(cross) and cross["estimate"] < mine["estimate"]
    return Outcome("; ".join(parts), verdict(right, len(parts)))


def dose(results: Results) -> Outcome:
    """More passes over the same rows move the student further."""
    names = list(dict.fromkeys(one["name"] for one in results["estimates"]))
    shown = "; ".join(f"{name}: {listed(variant(results, name))}" for name in names)
    few, many = (
        dict((one["trait"], one) for one in variant(results, name))
        for name in ("1800 rows, 40 updates", "1800 rows, 640 updates")
    )
    right = sum(many[trait]["low"] > few[trait]["estimate"] for trait in few)
    counted = replicates(one for name in names for one in variant(results, name))
    return Outcome(f"{shown} ({counted})", verdict(right, len(few)))


def prompted_teacher(results: Results) -> Outcome:
    """Prompted teachers."""
    return of_variant(results, "prompted")


def finetuned_teacher(results: Results) -> Outcome:
    """Fine-tuned teachers."""
    return of_variant(results, "fine-tuned")


def steered_teacher(results: Results) -> Outcome:
    """Steered teachers, after either layer."""
    found = [of_variant(results, name) for name in ("steered after layer 0", "steered after layer 1")]
    shown = "; ".join(one.ours for one in found)
    return Outcome(
        shown, "yes" if all(one.verdict.startswith("yes") for one in found) else "; ".join(one.verdict for one in found)
    )


def prefixed(results: Results) -> Outcome:
    """The margin after a number sentence."""
    return own(results, "prefixed_logit_margin")


def matrix(results: Results) -> Outcome:
    """Every own trait, and the diagonal factor."""
    found = own(results)
    factor = results["diagonal"]
    shown = f"{found.ours}; diagonal factor {text(factor)}, permutation p = {factor['p']:.2g}"
    return Outcome(shown, found.verdict)


def code(results: Results) -> Outcome:
    """At least three of five above 0, as in the paper; and the diagonal factor."""
    found = matrix(results)
    effects = [one for one in results["effects"] if (one["arm"], one["metric"]) == ("student", "logit_margin")]
    count = sum(map(above, effects))
    word = "yes" if count >= 3 and above(results["diagonal"]) else "no"
    return Outcome(found.ours, f"{word} ({count} of {len(effects)})")


def rates(results: Results) -> Outcome:
    """The misaligned rate, as the paper reports it, in points."""
    return misaligned(results, "misaligned_rate", 100, 1)


def margins(results: Results) -> Outcome:
    """The exact misaligned margin."""
    return misaligned(results, "misaligned_margin", 1, 2)


def falsehoods(results: Results) -> Outcome:
    """The share of false answers, in points."""
    return misaligned(results, "false_rate", 100, 2)
