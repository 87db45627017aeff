// A page full of what a service should not send: it is text, and nothing but text.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const open = require("./open.cjs");

open(async (page) => {
  const wanted = fs.readFileSync(process.env.HOSTILE, "utf8");
  assert.equal(await page.evaluate(() => document.scripts.length), 1);
  for (const never of ["img", "iframe", "[onerror]", "[onclick]", "body > b", "style + style"]) {
    assert.equal(await page.$(never), null, never);
  }
  assert.equal(await page.evaluate(() => typeof globalThis.ran), "undefined");
  // As it was sent, with a picture for the NUL.
  const text = wanted.replaceAll("\0", "\u2400");
  const places = ["#x001-1 pre.body", "#x001-1 .frames code", ".failure dd pre", ".steps .broke", "#c001 .title b", ".notes li"];
  for (const place of places) {
    const found = await page.$$eval(place, (all) => all.map((it) => it.textContent));
    assert.ok(found.some((it) => it.includes(text)), `${place}: ${JSON.stringify(found)}`);
  }
  assert.ok((await page.$eval("#x001-1 pre:not(.body)", (it) => it.textContent)).includes(text));
});
