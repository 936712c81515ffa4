"""Well-known text of reference systems, 1 and 2 (OGC 01-009, 18-010): which lengths x, y and z are counted in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([\[(])|([\])])|(,)|([^\s\[\](),"]+))')
_PROJECTED = {"PROJCS", "PROJCRS", "PROJECTEDCRS", "LOCAL_CS", "ENGCRS", "ENGINEERINGCRS", "DERIVEDPROJCRS"}
_GEOGRAPHIC = {"GEOGCS", "GEOGCRS", "GEOGRAPHICCRS", "GEODCRS", "GEODETICCRS"}
_VERTICAL = {"VERT_CS", "VERTCS", "VERTCRS", "VERTICALCRS"}
_BASES = {"BASEGEOGCRS", "BASEGEODCRS", "BASEPROJCRS", "BASEVERTCRS", "TARGETCRS", "ABRIDGEDTRANSFORMATION"}
_UNITS = {"UNIT", "LENGTHUNIT"}
_DEEPEST = 50


@dataclass
class Node:
    """A keyword with what stands in its brackets: texts, words and numbers, and further nodes."""

    keyword: str
    values: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)


def units(wkt: str) -> tuple[str | None, str | None]:
    """The unit of x and y (degree for a geographic system) and that of z where a vertical system says it; None where
    nothing does, or the text is no WKT."""
    root = _parse(f"COMPOUNDCRS[{wkt}]")  # ESRI writes the system of heights beside that of x and y
    if root is None:
        return None, None
    systems = [*_systems(root)]
    vertical = next((_unit(node) for node in systems if node.keyword in _VERTICAL), None)
    for node in systems:
        if node.keyword in _PROJECTED:
            return _unit(node), vertical
    geographic = any(node.keyword in _GEOGRAPHIC for node in systems)
    return ("degree" if geographic else None), vertical


def unit_name(name: str, factor: str | None) -> str:
    """metre, foot or US survey foot, by how many metres it has, else by what it is called; else its own name."""
    try:
        size = float(factor) if factor is not None else None
    except ValueError:
        size = None
    for known, metres in (("metre", 1.0), ("foot", 0.3048), ("US survey foot", 1200 / 3937)):
        if size is not None and abs(size - metres) < 1e-8 * metres:
            return known
    plain = re.sub(r"[^a-z]", "", name.lower())
    if size is None and plain in ("metre", "meter", "metres", "meters", "m"):
        return "metre"
    if re.fullmatch(r"(us|ussurvey|survey|ussurv)(foot|feet|ft)|ftus|footus", plain):
        return "US survey foot"
    if re.fullmatch(r"(international)?(foot|feet|ft)(international|intl)?", plain):
        return "foot"
    return name


def _systems(node: Node) -> Iterator[Node]:
    """Reference systems that coordinates are given in, not those they are derived from or bound to."""
    if node.keyword in _PROJECTED | _GEOGRAPHIC | _VERTICAL:
        yield node
        return
    for inner in node.nodes:
        if inner.keyword not in _BASES:
            yield from _systems(inner)


def _unit(system: Node) -> str | None:
    """Of a system, or of its first axis."""
    own = [node for node in system.nodes if node.keyword in _UNITS]
    axes = [unit for node in system.nodes if node.keyword == "AXIS" for unit in node.nodes if unit.keyword in _UNITS]
    for node in (*own[-1:], *axes[:1]):
        if node.values:
            return unit_name(node.values[0], node.values[1] if len(node.values) > 1 else None)
    return None


def _parse(text: str) -> Node | None:
    """The outermost node; None for what is no WKT."""
    open_nodes, word, root = [], "", None
    for match in _TOKEN.finditer(text):
        quoted, opening, closing, _, plain = match.groups()
        if plain is not None:
            word = plain
            continue
        if opening:
            node = Node(word.upper())
            if open_nodes:
                open_nodes[-1].nodes.append(node)
            root = root or node
            open_nodes.append(node)
            if len(open_nodes) > _DEEPEST:
                return None
        elif open_nodes:
            if quoted is not None:
                open_nodes[-1].values.append(quoted)
            elif word:
                open_nodes[-1].values.append(word)
            if closing:
                open_nodes.pop()
        word = ""
        if root and not open_nodes:
            return root
    return None
