// The page against the HTML standard, by html-validate.
"use strict";
const { HtmlValidate, StaticConfigLoader } = require("html-validate");

const validator = new HtmlValidate(
  new StaticConfigLoader({
    root: true,
    extends: ["html-validate:recommended", "html-validate:standard"],
    rules: {
      // What a service sent ends where it ends.
      "no-trailing-whitespace": "off",
    },
  }),
);
validator.validateFile(process.env.PAGE).then((report) => {
  for (const { messages } of report.results) {
    for (const it of messages) console.log(`${it.line}:${it.column} ${it.ruleId}: ${it.message}`);
  }
  process.exitCode = report.valid ? 0 : 1;
});
