"""Extracts the commands from a page of the documents, so that a check runs what readers copy.

  steps.py PAGE HEADING DIRECTORY

Takes the first sh block under the heading apart and writes each command, with its here-document, into
DIRECTORY/1, 2, ...; prints how many there are.
"""

import pathlib
import re
import sys

page, heading, directory = sys.argv[1:]
text = pathlib.Path(page).read_text()
section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
block = re.search(r"^```sh\n(.*?)^```", section, re.M | re.S)[1]
commands, end = [], None
for line in block.splitlines():
    if end is None:
        commands.append(line)
        document = re.search(r"<<'(\w+)'", line)
        end = document and document[1]
    else:
        commands[-1] += "\n" + line
        end = None if line == end else end
directory = pathlib.Path(directory)
directory.mkdir()
for number, command in enumerate(commands, 1):
    (directory / str(number)).write_text(command + "\n")
print(len(commands))
