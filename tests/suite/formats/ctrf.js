// ctrf.json of the run in argv[2] is valid to CTRF's own validator, and says what results.json says.
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const { calculateSummary, validate } = require("ctrf");

const run = process.argv[2];
const read = (name) => JSON.parse(fs.readFileSync(path.join(run, name), "utf8"));
const report = read("ctrf.json");
const ledger = read("results.json");

const { valid, errors } = validate(report);
assert(valid, JSON.stringify(errors, null, 1));

const { summary, tests, environment } = report.results;
const counted = calculateSummary(tests);
for (const name of ["tests", "passed", "failed", "skipped", "pending", "other"]) assert.equal(summary[name], counted[name], name);
const { passed, failed, errored, timed_out, not_run } = ledger.totals;
assert.deepEqual([summary.passed, summary.failed, summary.other], [passed, failed + errored + timed_out, not_run]);
assert(summary.stop >= summary.start && summary.start > 0);
assert.equal(report.runId, ledger.run_id);
assert.equal(environment.testEnvironment, ledger.target);
assert.equal(environment.healthy, passed === ledger.checks.length);

assert.deepEqual(tests.map((it) => it.name), ledger.checks.map((it) => it.name));
tests.forEach((test, at) => {
  const entry = ledger.checks[at];
  assert.equal(test.rawStatus, entry.verdict);
  assert.equal(test.duration, Math.round(entry.duration_ms ?? 0));
  assert.equal(test.extra.class ?? null, entry.class);
  assert.equal(test.extra.cause ?? null, entry.cause);
  assert.deepEqual(test.suite, ["critical", entry.area]);
  const red = entry.verdict !== "passed";
  assert.equal(Boolean(test.message), red);
  assert.equal(Boolean(test.trace), red);
  if (entry.summary && entry.summary.length < 1000) assert.equal(test.message, entry.summary.split(/\s+/).join(" ").trim());
  if (entry.verdict === "not_run") return assert.equal(test.attachments, undefined);
  assert(fs.existsSync(path.join(run, test.attachments[0].path)));
  const failed = test.steps.filter((step) => step.status === "failed");
  if (entry.verdict === "passed") assert.equal(failed.length, 0);
});

// The validator can say no.
const without = (change) => {
  const copy = structuredClone(report);
  change(copy);
  return validate(copy).valid;
};
assert(!without((it) => delete it.specVersion));
assert(!without((it) => delete it.results.summary.other));
assert(!without((it) => delete it.results.tests[0].duration));
assert(!without((it) => (it.results.tests[0].status = "errored")));
assert(!without((it) => (it.results.tests[0].class = "sla")));
assert(!without((it) => (it.results.tests[0].start = null)));
console.log("ok");
