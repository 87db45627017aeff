"""results.json of the run in argv[1] keeps the schema in argv[2]."""

import copy
import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

SCHEMA = json.loads(Path(sys.argv[2]).read_bytes())
LEDGER = json.loads((Path(sys.argv[1]) / "results.json").read_bytes())
Draft202012Validator.check_schema(SCHEMA)
VALIDATOR = Draft202012Validator(SCHEMA)
VALIDATOR.validate(LEDGER)
assert sum(LEDGER["totals"].values()) == len(LEDGER["checks"])

# Nothing is written that the schema does not describe.
assert set(LEDGER) == set(SCHEMA["properties"]), set(LEDGER) ^ set(SCHEMA["properties"])
CHECK = SCHEMA["$defs"]["check"]["properties"]
for entry in LEDGER["checks"]:
    assert set(entry) == set(CHECK), set(entry) ^ set(CHECK)


def refused(what, change):
    ledger = copy.deepcopy(LEDGER)
    change(ledger)
    assert not VALIDATOR.is_valid(ledger), f"{what} is not noticed"


for member in SCHEMA["required"]:
    refused(f"the want of {member}", lambda it: it.pop(member))
for member in SCHEMA["$defs"]["check"]["required"]:
    refused(f"the want of {member} in a check", lambda it: it["checks"][0].pop(member))
refused("another version", lambda it: it.update(schema=2))
refused("an unknown verdict", lambda it: it["checks"][0].update(verdict="green"))
refused("a check that did not run and took time", lambda it: it["checks"][0].update(verdict="not_run", duration_ms=1.0))
refused("a missing total", lambda it: it["totals"].pop("not_run"))
refused("a time without a zone", lambda it: it.update(updated_at=it["updated_at"].rstrip("Z")))

# Members may be added.
more = copy.deepcopy(LEDGER)
more["checks"][0]["new"] = more["new"] = 1
VALIDATOR.validate(more)
print("ok")
