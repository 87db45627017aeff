// run.har of the run in argv[2] is valid to har-validator, its times add up, and it says what the evidence says.
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const validate = require("har-validator/lib/async");

const run = process.argv[2];
const har = JSON.parse(fs.readFileSync(path.join(run, "run.har"), "utf8"));
const valid = (data) => new Promise((done) => validate.har(data, (error) => done(error ? error.errors : null)));
const near = (a, b, what) => assert(Math.abs(a - b) < 0.0015, `${what}: ${a} is not ${b}`);
const characters = (text, many) => Array.from(text).slice(0, many).join("");

function judge(entry, pages, evidence) {
  const { blocked, dns, connect, ssl, send, wait, receive } = entry.timings;
  const steps = [blocked, dns, connect, send, wait, receive];
  const happened = steps.filter((step) => step >= 0);
  near(entry.time, happened.reduce((a, b) => a + b, 0), "time");
  assert(steps.every((step) => step >= 0 || step === -1) && send >= 0 && wait >= 0 && receive >= 0, JSON.stringify(entry.timings));
  assert(ssl <= connect, "ssl lies within connect");
  assert(pages.has(entry.pageref), entry.pageref);
  const socket = entry._resourceType === "websocket";
  assert.equal(Array.isArray(entry._webSocketMessages), socket);

  const about = evidence.get(entry.pageref);
  const x = about.exchanges[Number(entry.comment.match(/^#(\d+) /)[1]) - 1];
  assert.equal(entry.request.method, x.method);
  assert.equal(entry.response.status, x.status ?? 0);
  assert.equal(entry.response._error ?? null, x.error);
  assert.equal(entry.request.headers.length, x.request_headers.length);
  near((Date.parse(entry.startedDateTime) - Date.parse(about.started_at)) / 1e3, x.started_ms / 1e3, "start");
  const { total_ms, first_byte_ms } = x.timing;
  if (total_ms !== null) near(entry.time, Math.max(total_ms, happened[0] ?? 0), "total");
  if (first_byte_ms !== null) near(entry.time - receive, Math.max(first_byte_ms, Math.max(dns, 0) + Math.max(connect, 0)), "first byte");
  if (x.response_body) assert.equal(entry.response.content.text, characters(x.response_body, 4000));
  if (x.request_body) assert.equal(entry.request.postData.text, characters(x.request_body, 4000));
  if (!socket) return;
  const shown = entry._webSocketMessages;
  assert(shown.length <= x.frames.length);
  if (shown.length < x.frames.length) assert.match(entry.comment, /earlier frames/);
  x.frames.slice(x.frames.length - shown.length).forEach((frame, at) => {
    assert.deepEqual([shown[at].type, shown[at].data], [frame.sent ? "send" : "receive", frame.text]);
    near(shown[at].time * 1e3, Date.parse(about.started_at) + x.started_ms + frame.at_ms, "frame");
  });
}

(async () => {
  assert.equal(await valid(har), null);
  const { version, pages, entries, comment } = har.log;
  assert.equal(version, "1.2");
  const folder = path.join(run, "evidence");
  const all = fs.readdirSync(folder).map((name) => JSON.parse(fs.readFileSync(path.join(folder, name), "utf8")));
  const evidence = new Map(all.map((it) => [String(it.id).padStart(3, "0"), it]));
  assert.deepEqual(new Set(pages.map((it) => it.id)), new Set(evidence.keys()));
  const exchanges = all.reduce((sum, it) => sum + it.exchanges.length, 0);
  const left_out = exchanges - entries.length;
  assert(left_out === 0 || comment.includes(`${left_out} of ${exchanges} exchanges are left out`), comment);
  entries.forEach((entry) => judge(entry, new Set(evidence.keys()), evidence));
  const starts = entries.map((it) => it.startedDateTime);
  assert.deepEqual(starts, [...starts].sort());

  if (exchanges === 0) return console.log("ok");
  // The validator can say no, and so can we.
  const without = (change) => {
    const copy = { log: { ...har.log, entries: [structuredClone(entries[0])] } };
    change(copy.log);
    return copy;
  };
  assert(await valid(without((log) => delete log.creator)));
  assert(await valid(without((log) => delete log.entries[0].timings.wait)));
  assert(await valid(without((log) => delete log.entries[0].request.headers)));
  assert(await valid(without((log) => (log.entries[0].startedDateTime = "today"))));
  assert.equal(await valid(without(() => {})), null);
  const late = { ...entries[0], time: entries[0].time + 1 };
  assert.throws(() => judge(late, new Set(evidence.keys()), evidence), /time/);
  console.log("ok");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
