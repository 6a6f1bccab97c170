// Keys of the viewer: j and k go from pair to pair, / searches, arrows turn pages. All of it works without a script, too.
"use strict";

const entries = [...document.querySelectorAll("[data-entry]")];
const form = document.querySelector("form.controls");

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) location.assign(link.href);
  return Boolean(link);
}

// The next or previous pair of the list gets the focus; behind its ends the page is turned.
function step(by) {
  if (!entries.length) return follow(by > 0 ? "a[rel=next]" : "a[rel=prev]");
  const place = entries.indexOf(document.activeElement) + by;
  if (by < 0 && !entries.includes(document.activeElement)) return true;
  const entry = entries[place];
  if (!entry) return follow(by > 0 ? "a[rel=next]" : "a[rel=prev]");
  entry.focus({ preventScroll: true });
  entry.closest("article").scrollIntoView({ block: "center" });
  return true;
}

const keys = {
  j: () => step(1),
  k: () => step(-1),
  ArrowRight: () => follow("a[rel=next]"),
  ArrowLeft: () => follow("a[rel=prev]"),
  u: () => follow("a[data-list]"),
  "/": () => {
    if (form) form.elements.q.focus();
    else follow("a[data-list]");
    return true;
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, .wide")) return;
  const act = keys[event.key];
  if (act && act()) event.preventDefault();
});

if (form) {
  for (const choice of form.querySelectorAll("select")) choice.addEventListener("change", () => form.requestSubmit());
}
