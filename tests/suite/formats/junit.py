"""junit.xml of the run in argv[1], read by junitparser, says what results.json says."""

import json
import sys
from pathlib import Path
from xml.etree.ElementTree import ParseError

from junitparser import Error, Failure, JUnitXml, JUnitXmlError, TestCase
from junitparser.junitparser import Properties

run = Path(sys.argv[1])
XML = (run / "junit.xml").read_text(encoding="utf-8")
LEDGER = json.loads((run / "results.json").read_text(encoding="utf-8"))
ABOUT = json.loads((run / "run.json").read_text(encoding="utf-8"))
KINDS = {"passed": [], "failed": [Failure]}
# What XML cannot say is replaced.
UNFIT = {**{c: "\ufffd" for c in range(32) if chr(c) not in "\t\n\r"}, 0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


def fit(text):
    return text.translate(UNFIT)


def properties(element):
    found = element.child(Properties)
    return {it.name: it.value for it in found} if found is not None else {}


def compare(xml, ledger):
    report = JUnitXml.fromstring(xml.encode())
    (suite,) = list(report)
    totals = ledger["totals"]
    errors = totals["errored"] + totals["timed_out"] + totals["not_run"]
    for counts in (report, suite):
        assert counts.tests == len(ledger["checks"]), counts.tests
        assert (counts.failures, counts.errors, counts.skipped) == (totals["failed"], errors, 0)
    told = properties(suite)
    assert (told["target"], told["run"]) == (ledger["target"], ledger["run_id"]), told
    assert told.get("commit") == ABOUT["commit"] and told.get("fault") == ABOUT["fault"], told
    assert told.get("environment") == (ABOUT["settings"] or {}).get("environment"), told

    cases = list(suite)
    assert all(isinstance(case, TestCase) for case in cases)
    assert [case.name for case in cases] == [entry["name"] for entry in ledger["checks"]]
    for case, entry in zip(cases, ledger["checks"]):
        assert case.classname == "critical." + entry["area"]
        assert abs((case.time or 0) - (entry["duration_ms"] or 0) / 1e3) < 0.001, case.time
        told = properties(case)
        for name in ("class", "cause"):
            assert told.get(name) == entry[name], (told, entry)
        assert told["impact"] == fit(entry["impact"])
        assert [type(it) for it in case.result] == KINDS.get(entry["verdict"], [Error]), entry["name"]
        if entry["verdict"] != "not_run":
            assert (run / told["evidence"]).is_file(), told
        for it in case.result:
            assert it.type == (entry["class"] or entry["verdict"]), it.type
            if entry["summary"] and len(entry["summary"]) < 1000:
                assert it.message == " ".join(fit(entry["summary"]).split()), it.message
            assert it.message and entry["name"] in it.text, it.text


def refused(what, errors, xml=XML, ledger=LEDGER):
    try:
        compare(xml, ledger)
    except errors:
        return
    raise SystemExit(f"{what} is not noticed")


compare(XML, LEDGER)
refused("half a file", ParseError, xml=XML[: len(XML) // 2])
refused("a wrong root", JUnitXmlError, xml=XML.replace("<testsuites", "<results").replace("</testsuites", "</results"))
refused("a missing name", AssertionError, xml=XML.replace(f'name="{LEDGER["checks"][0]["name"]}"', "", 1))
refused("a case too few", AssertionError, xml=XML.replace('tests="', 'tests="1', 1))
other = "failed" if LEDGER["checks"][0]["verdict"] != "failed" else "passed"
first = {**LEDGER["checks"][0], "verdict": other}
refused("another verdict", AssertionError, ledger={**LEDGER, "checks": [first, *LEDGER["checks"][1:]]})
print("ok")
