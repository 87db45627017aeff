"""run.har of the run in argv[1], read by haralyzer: a page a check, with its entries, their times and answers."""

import copy
import json
import sys
from pathlib import Path

from haralyzer import HarParser

run = Path(sys.argv[1])
HAR = json.loads((run / "run.har").read_text(encoding="utf-8"))
EVIDENCE = {f"{it['id']:03}": it for it in (json.loads(path.read_bytes()) for path in (run / "evidence").iterdir())}


def compare(har):
    parser = HarParser(har)
    assert parser.version == "1.2" and parser.creator["name"] == "netra-critical"
    pages = {page.page_id: page for page in parser.pages if page.page_id != "unknown"}
    assert set(pages) == set(EVIDENCE), set(pages)
    read = 0
    for number, page in pages.items():
        evidence = EVIDENCE[number]
        assert page.title == f"{number} {evidence['title']}", page.title
        assert abs(page.pageTimings["onLoad"] - evidence["duration_ms"]) < 0.001
        entries = page.entries
        read += len(entries)
        by_status = {}
        for x in evidence["exchanges"]:
            by_status[x["status"] or 0] = by_status.get(x["status"] or 0, 0) + 1
        for status, many in by_status.items():
            found = sum(entry.status == status for entry in entries)
            assert found == many or "left out" in har["log"]["comment"], (number, status, found, many)
        for entry in entries:
            assert entry.startTime.utcoffset().total_seconds() == 0, entry.startTime
            assert entry.time >= 0 and entry.timings["wait"] >= 0 and entry.url == entry.request.url
            assert entry.response.mimeType and entry.response.contentSize >= 0
            if entry.response.status:
                assert entry.serverAddress and entry.port > 0, entry.url
    assert read == len(har["log"]["entries"]), read


def refused(what, change):
    har = copy.deepcopy({"log": {**HAR["log"], "entries": HAR["log"]["entries"][:]}})
    change(har["log"])
    try:
        compare(har)
    except (AssertionError, KeyError):
        return
    raise SystemExit(f"{what} is not noticed")


compare(HAR)
if HAR["log"]["entries"]:
    refused("an entry without a time", lambda log: log["entries"][0].pop("time"))
    refused("an entry without a page", lambda log: log["entries"][0].update(pageref="999"))
refused("a page too few", lambda log: log["pages"].pop())
print("ok")
