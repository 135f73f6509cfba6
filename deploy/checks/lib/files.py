"""Extracts the files from a page of the documents, so that a check has what readers copy.

  files.py PAGE HEADING DIRECTORY

Writes each block under the heading whose first line is `# NAME` into DIRECTORY/NAME; NAME may have directories.
"""

import pathlib
import re
import sys

page, heading, directory = sys.argv[1:]
text = pathlib.Path(page).read_text()
section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
files = re.findall(r"^```\w+\n(# ([\w/-]+\.\w+)\n.*?)^```", section, re.M | re.S)
for content, name in files:
    file = pathlib.Path(directory, name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
print(" ".join(name for _, name in files))
