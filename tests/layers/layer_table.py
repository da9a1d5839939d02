"""The two tables of docs/architecture.md: which component may include which, and which library belongs where."""

from __future__ import annotations

import graphlib
import re
from dataclasses import dataclass
from pathlib import Path

EVERYBODY = "everybody"
TESTS = "tests"


class TableError(Exception):
    """The tables themselves cannot be used."""


@dataclass(frozen=True)
class Component:
    layer: int
    name: str
    folders: tuple[str, ...]
    allowed: frozenset[str]  # components it may include, itself among them


@dataclass(frozen=True)
class Library:
    name: str
    headers: tuple[str, ...]  # "hdf5.h", or "torch/" for everything below
    private: frozenset[str]  # components whose private files may include it
    public: frozenset[str]  # components whose public headers may

    def owns(self, header: str) -> bool:
        return any(header.startswith(h) if h.endswith("/") else header == h for h in self.headers)


@dataclass(frozen=True)
class LayerTable:
    components: dict[str, Component]
    libraries: tuple[Library, ...]

    def component_of(self, path: str) -> Component | None:
        """The component with the longest folder that holds `path`, a path from the root."""
        matches = [
            (len(folder), component)
            for component in self.components.values()
            for folder in component.folders
            if path == folder or path.startswith(folder + "/")
        ]
        return max(matches, key=lambda match: match[0])[1] if matches else None

    def library_of(self, header: str) -> Library | None:
        return next((library for library in self.libraries if library.owns(header)), None)


def read_layer_table(document: Path) -> LayerTable:
    text = document.read_text(encoding="utf-8")
    components = read_components(table_rows(text, ["Layer", "Component", "Folders", "May include"]))
    libraries = tuple(
        Library(row[0], code_words(row[1]), frozenset(names(row[2])), frozenset(names(row[3])))
        for row in table_rows(text, ["Library", "Headers", "Private files of", "Public headers of"])
    )
    check_names(components, libraries)
    check_no_arrow_upwards(components)
    check_no_circle(components)
    return LayerTable(components, libraries)


def table_rows(text: str, heading: list[str]) -> list[list[str]]:
    """The cells of the Markdown table with this heading."""
    lines = iter(text.splitlines())
    for line in lines:
        if cells(line) == heading:
            break
    else:
        raise TableError(f"no table with the heading {' | '.join(heading)}")
    rows = []
    next(lines, "")  # the rule below the heading
    for line in lines:
        if not line.startswith("|"):
            break
        if len(cells(line)) != len(heading):
            raise TableError(f"wanted {len(heading)} cells, found {len(cells(line))}: {line}")
        rows.append(cells(line))
    if not rows:
        raise TableError(f"the table with the heading {' | '.join(heading)} is empty")
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def code_words(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(",") if name.strip()]


def read_components(rows: list[list[str]]) -> dict[str, Component]:
    layers = {name: int(layer) for layer, name, _, _ in rows}
    components = {}
    for layer, name, folders, allowed in rows:
        if name in components:
            raise TableError(f"component {name} has two rows")
        arrows = {name}
        for word in names(allowed):
            all_to = re.fullmatch(r"all to (\d+)", word)
            arrows |= {n for n, number in layers.items() if number <= int(all_to[1])} if all_to else {word}
        components[name] = Component(int(layer), name, code_words(folders), frozenset(arrows))
    return components


def check_names(components: dict[str, Component], libraries: tuple[Library, ...]) -> None:
    used = set().union(*(c.allowed for c in components.values()), *(x.private | x.public for x in libraries))
    unknown = sorted(used - set(components) - {EVERYBODY})
    if unknown:
        raise TableError(f"no such component: {', '.join(unknown)}")


def check_no_arrow_upwards(components: dict[str, Component]) -> None:
    for component in components.values():
        above = sorted(name for name in component.allowed if components[name].layer > component.layer)
        if above:
            raise TableError(f"{component.name} of layer {component.layer} looks up to {', '.join(above)}")


def check_no_circle(components: dict[str, Component]) -> None:
    try:
        graphlib.TopologicalSorter({name: c.allowed - {name} for name, c in components.items()}).prepare()
    except graphlib.CycleError as error:
        raise TableError(f"the arrows form a circle: {', '.join(sorted(set(error.args[1])))}") from error
