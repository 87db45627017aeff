// Opens the page named by PAGE in the Chromium named by CHROMIUM, and fails if it asks the network for anything, complains, or
// opens a dialogue.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const puppeteer = require("puppeteer-core");

const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--hide-scrollbars"];

module.exports = async (visit) => {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
  const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, args: QUIET, userDataDir: profile, headless: true });
  try {
    const page = await browser.newPage();
    const url = pathToFileURL(process.env.PAGE).href;
    const trouble = [];
    page.on("request", (request) => {
      const asked = request.url();
      if (asked.split("#")[0] !== url && !asked.startsWith("data:")) trouble.push(`asked for ${asked}`);
    });
    page.on("console", (message) => trouble.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => trouble.push(`error: ${error}`));
    page.on("dialog", async (dialog) => {
      trouble.push(`dialogue: ${dialog.message()}`);
      await dialog.dismiss();
    });
    await page.setViewport({ width: 1280, height: 800 });
    await page.goto(url);
    await visit(page, browser, url);
    assert.deepEqual(trouble, []);
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
  console.log("ok");
};
