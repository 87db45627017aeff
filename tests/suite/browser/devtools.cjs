// Imports HAR into the network panel of Chromium's own DevTools, as a user would, and wants every entry there.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const open = require("./open.cjs");

// The texts of a page and of all shadow roots in it.
const texts = (page) =>
  page.evaluate(() => {
    const below = (root) => [...root.querySelectorAll("*")].flatMap((it) => [it, ...(it.shadowRoot ? below(it.shadowRoot) : [])]);
    return below(document).filter((it) => it.childElementCount === 0).map((it) => it.textContent.trim());
  });

const shown = async (page, wanted) => {
  let last = [];
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    last = await texts(page);
    if (last.includes(wanted)) return;
  }
  assert.fail(`${wanted} is not in ${last.filter((it) => / requests$/.test(it))}`);
};

open(async (_, browser) => {
  const { entries } = JSON.parse(fs.readFileSync(process.env.HAR, "utf8")).log;
  const page = await browser.newPage();
  await page.goto("devtools://devtools/bundled/devtools_app.html?panel=network");
  const button = await page.waitForSelector('>>> button[aria-label^="Import HAR file"]', { visible: true });
  const [chooser] = await Promise.all([page.waitForFileChooser(), button.click()]);
  await chooser.accept([process.env.HAR]);
  await shown(page, `${entries.length} requests`);
  const sockets = entries.filter((it) => it._webSocketMessages).length;
  await page.click("aria/Socket");
  await shown(page, `${sockets} / ${entries.length} requests`);
});
