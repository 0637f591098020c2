"""What was found of a cell's layers, in a sentence; from the entry of ``layers.json`` alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gapshift.reports.combinations import deviation_words

Json = Mapping[str, Any]
_OF_INPUTS = ("preprocessing.", "shift.")
_FILE = "compare with the file as it was trained, --against MODEL.onnx"
_SCALED = 10
"""A weight is a multiple of the reference's where taking the factor off leaves a tenth of its error."""


def finding(entry: Json) -> str:
    """What a reader is to know first."""
    if entry["status"] != "ok":
        return f"{str(entry['status']).replace('_', ' ')}: {entry['reason']}"
    return "; ".join(_parts(entry)) or "nothing to compare the reference with: give --against MODEL or RUN"


def _parts(entry: Json) -> Iterator[str]:
    if entry.get("answers"):
        yield _answers(entry["answers"])
    if "given" not in entry:
        return
    if entry["layers"] is None:
        yield f"{entry['engine']} cannot be opened, so only its outputs are compared: {_outputs(entry['outputs'])}"
    if entry["given"]["error"] != 0:
        yield _given(entry)
    if entry["layers"] is not None:
        yield from filter(None, (_layers(entry), passes_words(entry["passes"])))
    yield from entry["notes"]


def _outputs(outputs: Json) -> str:
    moved = f"{percent(outputs['changed_answers'])} of items have another highest score"
    return f"normalised error {error_words(outputs)}, {moved}"


def _given(entry: Json) -> str:
    how = f"normalised error {size(entry['given']['error'])}" if entry["given"]["same_shape"] else "of another shape"
    said = f"is given other inputs ({how})"
    causes = entry["causes"]
    if causes and causes[0]["is_cause"]:
        return f"{said}: {causes[0]['words']} ({causes[0]['name']}) makes them (left: {size(causes[0]['left'])})"
    own = [deviation_words(key, value) for key, value in entry["deviations"].items() if key.startswith(_OF_INPUTS)]
    if own and entry["explained"]:
        apart = "; `gapshift explain` takes them apart" if len(own) > 1 else ""
        whose = (
            f"its own deviations ({', '.join(own)}) make together" if apart else f"its own deviation ({own[0]}) makes"
        )
        return f"{said}, which {whose}{apart}"
    if own:
        said += f", of which its own deviations ({', '.join(own)}) are a part,"
    if causes:
        near = causes[0]
        return f"{said} that no way of preparing tried makes; the nearest, {near['name']}, leaves {size(near['left'])}"
    return said


def _layers(entry: Json) -> str:
    leaving, layers = entry["leaving"], {layer["tensor"]: layer for layer in entry["layers"]}
    if leaving["blamed"] is not None:
        also = ", ".join(node_words(layers[tensor]) for tensor in leaving["also"][:3])
        return "; ".join(filter(None, (_blamed(layers[leaving["blamed"]], leaving), also and f"so does {also}")))
    if leaving["first"] is None:
        worst = max(entry["layers"], key=lambda layer: layer["error"] or 0.0, default=None)
        if worst is None:
            return "no tensor of the two files has the same name, so no layer can be compared"
        unseen = [f"{weight_words(each)}, which no item shows" for each in _telling(leaving)]
        return "; ".join([f"no layer leaves (largest error {size(worst['error'])}, at {node_words(worst)})", *unseen])
    if leaving["given"] and entry["same_file"]:
        outputs = entry["outputs"]
        how = f"differ by {size(outputs['error'])}" if outputs["same_shape"] else "have another shape"
        return f"its nodes are the reference's; its outputs {how}"
    first = layers[leaving["first"]]
    owns = [layer for layer in entry["layers"] if layer["own"]]
    most = max(owns, key=lambda layer: layer["own"], default=None)
    said = f"leaves from {node_words(first)} on (normalised error {error_words(first)})"
    if most is None:
        return said
    return (
        f"{said} and no single layer stands out: on their own they differ by up to {size(most['own'])} "
        f"at {node_words(most)}, half of them by less than {size(leaving['typical'])}; the outputs by "
        f"{error_words(entry['outputs'])}"
    )


def _blamed(layer: Json, leaving: Json) -> str:
    own = size(layer["own"]) if layer["own_finite"] else "not finite"
    others = f", the other layers {size(leaving['typical'])}" if leaving["typical"] else ""
    said = (
        f"leaves at {node_words(layer)}: normalised error {error_words(layer)}, inputs to it {size(layer['inputs'])}, "
        f"on its own {own}{others}"
    )
    return "; ".join(filter(None, (said, scale_words(leaving["scale"]), *map(weight_words, _telling(leaving)))))


def _telling(leaving: Json) -> list[Json]:
    """The weights that differ about as much as the one that differs most."""
    weights = leaving["weights"]
    most = weights[0]["error"] if weights else None
    return [each for each in weights if most is None or each["error"] is None or each["error"] > most / _SCALED][:2]


def scale_words(scale: Json | None) -> str:
    """What is wrong with a quantised tensor's scale, where the range or the step says it."""
    if scale is None or not scale["needed"]:
        return ""
    (low, high), (least, most) = scale["range"], scale["other_range"]
    times = scale["step"] / scale["needed"]
    if times < 1:
        return (
            f"its scale reaches from {least:.3g} to {most:.3g}, and the reference's values from {low:.3g} to {high:.3g}"
        )
    return f"its step {scale['step']:.2g} is {times:.3g} times what the reference's range takes"


def weight_words(weight: Json) -> str:
    """How a weight differs; where some of its values stand out, which."""
    said = f"weight {weight['name']} differs by {size(weight['error'])}"
    if weight["beside"] is not None and weight["beside"] < weight["error"] / _SCALED:
        return f"weight {weight['name']} is {weight['factor']:.3g} times the reference's"
    if not 0 < weight["outliers"] < weight["size"]:
        return said
    block = ", ".join(f"{first}:{last + 1}" for first, last in weight["block"])
    return f"{said}, within [{block}]: {weight['outliers']:,} of {weight['size']:,} values"


def passes_words(passes: Json | None) -> str:
    """What optimisation changes, if anything, and which pass."""
    if passes is None or passes["level"] is None:
        return ""
    level = passes["level"]
    said = f"graph optimisation changes the outputs by {size(passes['errors'][level])} from level {level} on"
    if passes["restoring"]:
        return f"{said}; without {_any(passes['restoring'])} it does not"
    if passes["together"]:
        return f"{said}; without {' and '.join(passes['together'])} together it does not, and no single one is enough"
    return f"{said}; disabling none of its {len(passes['applied'])} passes restores them"


def _any(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"any one of {', '.join(names)}"


def _answers(answers: Json) -> str:
    n, before, trusted = answers["n"], answers["before"], answers["trusted"]
    verb = "is right" if answers["truth"] else f"agrees with {trusted}"
    said = f"{verb} on {percent(before)} of {n} items"
    if before == 1 and not answers["truth"]:
        return f"{said}: there is nothing to explain"
    row = helping(answers)
    if row is None:
        tried = answers["candidates"] - answers["unfit"]
        return f"{said}, and none of the {tried} ways of preparing tried changes that; {_FILE}"
    alike = f"; as good: {', '.join(answers['as_good'])}" if answers["as_good"] else ""
    after = f"on {percent(row['after'])} (p {_p(row['p_holm'])}){alike}"
    if row["of"] == "labels":
        claim = "the labels stand in another order" if answers["cause"] else "read with the labels in another order"
        how = f"{claim}: {row['words']} ({row['name']}), {after}"
    else:
        how = f"prepared with {row['words']} ({row['name']}), {after}"
    return f"{said}; {how}{_remaining(answers)}"


def helping(answers: Json) -> Json | None:
    """The candidate that helps most."""
    return next((row for row in answers["tried"] if row["name"] == answers["helps"]), None)


def _remaining(answers: Json) -> str:
    """What a candidate that helps leaves unexplained, and what to try then."""
    if answers["truth"]:
        return (
            f"; that helps, and labels alone do not say how much is missing: {_FILE}, or with a run that was right, "
            "--against RUN"
        )
    if answers["cause"] is None:
        return (
            f"; that helps and explains little: {percent(answers['regained'])} of what is missing comes back; {_FILE}"
        )
    return ""


def _p(p: float) -> str:
    return "< 1e-6" if p < 1e-6 else f"= {p:.2g}"


def percent(share: float | None) -> str:
    """A share in percent with one digit.

    >>> percent(0.1234), percent(None)
    ('12.3%', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}%"


def size(value: float | None) -> str:
    """An error in two digits.

    >>> size(0.3123), size(0.0), size(None)
    ('0.31', '0', 'not finite')
    """
    return "not finite" if value is None else f"{value:.2g}"


def error_words(found: Json) -> str:
    """A difference's error, or why it has none."""
    return size(found["error"]) if found["same_shape"] else "another shape"


def node_words(layer: Json) -> str:
    """A layer by the name that the reference's file gives its node, and what it is."""
    theirs = layer["reference"]
    name, operator = theirs["node"] or theirs["tensor"], theirs["operator"] or "the input"
    return f"{name} ({operator}{', after quantising' if layer['stage'] == 'quantised' else ''})"
