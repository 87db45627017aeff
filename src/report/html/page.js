"use strict";
// The page is whole without this: it adds a filter, keys, links that unfold what they point at, and buttons that copy.
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const checks = all("details.check");
  const bar = document.querySelector(".filter");
  const field = document.getElementById("filter");
  const buttons = all("button[data-verdict]", bar);
  const texts = new Map();
  let verdict = "";

  // Read when first asked for: a run's page holds megabytes of text.
  const text = (check) => {
    if (!texts.has(check)) texts.set(check, check.textContent.toLowerCase());
    return texts.get(check);
  };
  const shown = () => checks.filter((check) => !check.hidden);

  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const check of checks) {
      const fits = !verdict || check.dataset.verdict === verdict;
      check.hidden = !(fits && words.every((word) => text(check).includes(word)));
      for (const cell of all(`.cell[href="#${check.id}"]`)) cell.classList.toggle("dim", check.hidden);
    }
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    const count = shown().length;
    document.getElementById("count").textContent = count === checks.length ? "" : `${count} of ${checks.length} shown`;
    document.getElementById("none").hidden = count > 0;
  };

  bar.hidden = false;
  field.addEventListener("input", filter);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      verdict = button.dataset.verdict;
      filter();
    });
  }

  // What a link points at is unfolded, with all around it, and shown even if it was filtered out.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.matches("details")) return;
    for (let at = target; at; at = at.parentElement && at.parentElement.closest("details")) {
      at.open = true;
      if (at.hidden) {
        field.value = verdict = "";
        filter();
      }
    }
    target.querySelector("summary").focus({ preventScroll: true });
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) reveal();
  });
  if (location.hash) reveal();

  const move = (by) => {
    const list = shown().map((check) => check.querySelector("summary"));
    const now = document.activeElement && document.activeElement.closest("details.check");
    const at = now ? list.indexOf(now.querySelector("summary")) : by > 0 ? -1 : list.length;
    const next = list[Math.min(Math.max(at + by, 0), list.length - 1)];
    if (next) {
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: "nearest" });
    }
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === field) {
      if (event.key !== "Escape") return;
      field.value = "";
      filter();
      field.blur();
    } else if (event.key === "/") {
      field.focus();
      field.select();
    } else if (event.key === "j" || event.key === "k") {
      move(event.key === "j" ? 1 : -1);
    } else {
      return;
    }
    event.preventDefault();
  });

  const copied = async (button) => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      // No permission: the text is selected, so that the usual keys copy it.
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  };
  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copied(button));
  }

  // Browsers whose style sheets cannot unfold for print.
  if (!CSS.supports("selector(::details-content)")) {
    addEventListener("beforeprint", () => {
      for (const check of checks) if (check.dataset.verdict !== "passed") check.open = true;
    });
  }
})();
