"""Parses a Groovy file; fails with the place where it is none."""

import sys

from groovy_parser.parser import parse_groovy_content

with open(sys.argv[1], encoding="utf-8") as file:
    parse_groovy_content(file.read())
