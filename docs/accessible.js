// What the theme leaves out for keyboards and screen readers.
const each = (selector, change) => document.querySelectorAll(selector).forEach(change);
// The theme wraps tables and adds its buttons later than that.
const late = () => {
  each(".md-typeset__scrollwrap:not([tabindex])", (table) => { table.tabIndex = 0; });
  each(".md-code__nav", (buttons, number) => {
    if (!buttons.ariaLabel) buttons.ariaLabel = `Code ${number + 1}`;
  });
};
new MutationObserver(late).observe(document.documentElement, { childList: true, subtree: true });
document.addEventListener("DOMContentLoaded", () => {
  late();
  each(".md-search[role=dialog]", (search) => search.setAttribute("aria-label", "Search"));
  each(".md-typeset th:empty", (head) => head.replaceWith(document.createElement("td")));
  each(".md-nav--secondary .md-nav[aria-label]", (nav, number) => {
    nav.setAttribute("aria-label", `${nav.getAttribute("aria-label")} (${number + 1})`);
  });
});
