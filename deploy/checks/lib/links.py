"""The links of the installed pages: links.py ROOT DIRECTORY RULES. Fails if one leads nowhere."""

import pathlib
import re
import sys

root, directory, rules = pathlib.Path(sys.argv[1]), *sys.argv[2:]


def anchors(page):
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(target, anchor):
    return not target.exists() or (anchor and anchor not in anchors(target))


faults, seen = [], 0
for page in root.joinpath(directory.lstrip("/")).rglob("*.md"):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("https://"):
            target, _, anchor = link.partition("#")
            seen += 1
            if leads_nowhere(page.parent / target if target else page, anchor):
                faults.append(f"{page.relative_to(root)}: {link}")
urls = re.findall(r"^ *runbook_url: (.+)$", root.joinpath(rules.lstrip("/")).read_text(), re.M)
for url in urls:
    target, _, anchor = url.removeprefix("file:///").partition("#")
    if not url.startswith("file:///") or leads_nowhere(root / target, anchor):
        faults.append(f"{rules}: {url}")
print("\n".join(faults) or f"{seen} links and {len(urls)} of alerts lead to files of the package")
sys.exit(bool(faults) or not seen or not urls)
