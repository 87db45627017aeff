// Uses the page of a run whose sockets refuse every token that was minted, as a reader would.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const open = require("./open.cjs");

// What can be seen, of the elements that fit a selector.
const visible = (page, selector) =>
  page.$$eval(selector, (all) => all.filter((it) => it.checkVisibility()).map((it) => it.id || it.textContent));
const text = (page, selector) => page.$eval(selector, (it) => it.innerText);

open(async (page, browser, url) => {
  // The verdict comes first, and that it is not staging's.
  const failed = Number(process.env.FAILED);
  assert.match(await text(page, "h1"), new RegExp(`^${failed} of 25 checks did not pass$`));
  assert.match(await text(page, ".banner"), /proves the suite, not staging/);
  assert.equal((await visible(page, ".cell")).length, 25);
  assert.match(await text(page, ".group"), /our minted token has no token_type/);
  const top = await page.$eval(".group .next", (it) => it.getBoundingClientRect().top);
  assert.ok(top < 800, `what to do next is below the first screen: ${top}`);

  if (process.env.SCREENSHOT) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
    await page.screenshot({ path: process.env.SCREENSHOT, clip: { x: 0, y: 0, width: 1280, height: 1000 } });
    assert.ok(fs.statSync(process.env.SCREENSHOT).size < 250_000);
  }

  // Filters: by verdict, by text, by both, by nothing.
  assert.equal((await visible(page, ".check")).length, 25);
  await page.click('.filter button[data-verdict="passed"]');
  const passed = await visible(page, ".check");
  assert.equal(passed.length, 25 - failed);
  assert.ok(!passed.includes("c001") && passed.includes("c005"));
  assert.equal(await text(page, "#count"), `${25 - failed} of 25 shown`);
  await page.type("#filter", "discovery/services");
  assert.deepEqual(await visible(page, ".check"), ["c005"]);
  await page.click('.filter button[data-verdict=""]');
  await page.$eval("#filter", (it) => it.select());
  await page.type("#filter", "no such text anywhere");
  assert.deepEqual(await visible(page, ".check"), []);
  assert.deepEqual(await visible(page, "#none"), ["none"]);

  // Keys: Escape clears, / goes to the filter, j and k move, Enter unfolds.
  await page.keyboard.press("Escape");
  assert.equal((await visible(page, ".check")).length, 25);
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "filter");
  await page.keyboard.type("minted no");
  const red = await visible(page, ".check");
  assert.equal(red.length, failed);
  await page.$eval("#filter", (it) => it.blur());
  const at = () => page.evaluate(() => document.activeElement.parentElement.id);
  const moved = [];
  for (const key of ["j", "j", "k", "j"]) {
    await page.keyboard.press(key);
    moved.push(await at());
  }
  assert.deepEqual(moved, [red[0], red[1], red[0], red[1]]);
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid", "where the keyboard is can be seen");
  assert.equal(await page.$eval(`#${red[1]}`, (it) => it.open), false);
  await page.keyboard.press("Enter");
  assert.equal(await page.$eval(`#${red[1]}`, (it) => it.open), true);
  await page.keyboard.press("k");
  await page.keyboard.press("Space");
  assert.equal(await page.$eval(`#${red[0]}`, (it) => it.open), false, "the first failure was unfolded already");

  // A link of the grid unfolds its check, filtered out or not, and a link to an exchange unfolds that.
  await page.click('.cell[href="#c005"]');
  await page.waitForFunction(() => document.getElementById("c005").open);
  assert.equal((await visible(page, ".check")).length, 25);
  await page.$eval("#c005 .exchanges", (it) => (it.open = true));
  const first = "#x005-1";
  assert.ok((await visible(page, `${first} > summary`)).length === 1 && (await visible(page, `${first} .wire`)).length === 0);
  await page.$eval(`${first} > summary`, (it) => it.scrollIntoView({ block: "center" }));
  await page.click(`${first} > summary`);
  const shown = await text(page, first);
  for (const wanted of ["x-request-id:", "GET https://", "200", "content-type:", "first byte after", "{"]) {
    assert.ok(shown.includes(wanted), `${wanted} is not in ${shown}`);
  }
  const drawn = await page.$eval(`${first} svg .body`, (it) => it.getBBox().width);
  assert.ok(drawn > 0);
  await page.$eval(".group .ref[href]", (it) => it.click());
  await page.waitForFunction(() => document.querySelector(location.hash).open && location.hash.startsWith("#x"));

  // The failure: cause, whys, steps up to the one that broke, frames as received.
  const cause = await page.$eval("#c001 .inside", (it) => it.textContent);
  for (const wanted of ["token_type", "a valid token is welcomed on the socket", "VALIDATION_FAILED", "What to do next"]) {
    assert.ok(cause.includes(wanted), `${wanted} is not in ${cause}`);
  }
  const steps = await page.$$eval("#c001 .steps li", (all) => all.map((it) => it.className));
  assert.equal(steps.at(-1), "broke");
  assert.ok(steps.slice(0, -1).every((it) => it === "held"));
  assert.equal(await page.$eval("#c001 .x.broke", (it) => it.open), true);

  // Copying: what is copied is the command, and nothing but it.
  await browser.defaultBrowserContext().overridePermissions(url, ["clipboard-read", "clipboard-sanitized-write"]);
  await page.click(".group .copy");
  await page.waitForFunction(() => document.querySelector(".group .copy").textContent === "copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await text(page, ".group .next code"));

  // Dark and light.
  const paper = async (value) => {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
    return page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number)[0]);
  };
  const [dark, light] = [await paper("dark"), await paper("light")];
  assert.ok(dark < 60 && light > 200, `dark ${dark}, light ${light}`);

  // On a phone nothing is wider than the screen, folded or not.
  await page.setViewport({ width: 390, height: 844 });
  for (const unfold of [false, true]) {
    if (unfold) await page.$$eval("details", (all) => all.forEach((it) => (it.open = true)));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 390, `unfolded ${unfold}: ${wide}`);
  }
  await page.$$eval("details", (all) => all.forEach((it) => (it.open = false)));

  // On paper failures are unfolded, and buttons are gone.
  await page.emulateMediaType("print");
  assert.ok(await page.$eval("#c001 .failure", (it) => it.checkVisibility({ contentVisibilityAuto: true }) && it.offsetHeight > 0));
  assert.deepEqual(await visible(page, "button"), []);
  const pdf = await page.pdf({ format: "A4" });
  assert.equal(Buffer.from(pdf.subarray(0, 5)).toString(), "%PDF-");
  await page.emulateMediaType("screen");

  // Without scripts all of it can be read, and nothing is shown that would not work.
  await page.setJavaScriptEnabled(false);
  await page.reload();
  assert.equal((await visible(page, ".check")).length, 25);
  assert.deepEqual(await visible(page, ".filter, button"), []);
  await page.click("#c005 > summary");
  assert.equal((await visible(page, "#c005 .inside")).length, 1);
});
