#!/usr/bin/env python3
"""Writes what readers see of the values: the table in README.md, and the descriptions in values.schema.json.

  deploy/helm/document.py [--check]

Both come from values.yaml: the comment above a key describes it. --check writes nothing, and fails if a file would
change. It also fails if a value has no description, or if values.yaml and the schema have different keys.
"""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parent / "portway"
BEGIN = "<!-- deploy/helm/document.py writes this table. -->\n"


def descriptions(text):
    """The comment above each key, by the path of the key."""
    found, path, comment = {}, [], []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# "):
            comment.append(stripped[2:])
            continue
        key = re.match(r"( *)([A-Za-z]+):", line)
        if key:
            path = path[: len(key[1]) // 2] + [key[2]]
            if comment:
                found[".".join(path)] = " ".join(comment)
        comment = []
    return found


def rows(values, found, path=()):
    """Name, default and description of each value. A table with descriptions inside is not a value itself."""
    for key, value in values.items():
        here = (*path, key)
        name = ".".join(here)
        if any(it.startswith(name + ".") for it in found):
            yield from rows(value, found, here)
        else:
            yield name, value, found[name]


def table(values, found):
    lines = ["| value | default | description |", "|---|---|---|"]
    for name, value, description in rows(values, found):
        default = "" if value is None else f"`{json.dumps(value)}`"
        lines.append(f"| `{name}` | {default} | {description} |")
    return "\n".join(lines) + "\n"


def describe(properties, values, found, path=()):
    """Puts the descriptions into the schema."""
    assert properties.keys() - {"global"} == values.keys(), f"other keys in the schema at {'.'.join(path)}"
    for key, value in values.items():
        name = ".".join((*path, key))
        inner = properties[key].get("properties")
        if any(it.startswith(name + ".") for it in found):
            describe(inner, value, found, (*path, key))
        else:
            rest = {it: what for it, what in properties[key].items() if it != "description"}
            properties[key] = {"description": found[name], **rest}


def main():
    text = (CHART / "values.yaml").read_text()
    values, found = yaml.safe_load(text), descriptions(text)
    readme, schema = CHART / "README.md", CHART / "values.schema.json"
    before, begin, rest = readme.read_text().partition(BEGIN)
    assert begin, f"{readme} has no line {BEGIN}"
    after = re.sub(r"\A\n*(\|.*\n)*", "", rest)
    tree = json.loads(schema.read_text())
    describe(tree["properties"], values, found)
    new = {
        readme: f"{before}{BEGIN}\n{table(values, found)}{after}",
        schema: json.dumps(tree, indent=2, ensure_ascii=False) + "\n",
    }
    old = [file for file, content in new.items() if file.read_text() != content]
    if sys.argv[1:] == ["--check"]:
        sys.exit(f"run deploy/helm/document.py: {', '.join(map(str, old))}" if old else 0)
    for file in old:
        file.write_text(new[file])


main()
