// The items of an evaluation run: a card for each.
"use strict";

// The text with every marked word highlighted, whatever its case, and the marked words that do not stand in it.
function highlighted(text, marked) {
  const words = [...new Set(marked.map((word) => word.trim()).filter(Boolean))].sort((a, b) => b.length - a.length);
  if (!words.length) return { parts: [text], missing: [] };
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\\/]/g, "\\$&").replace(/\s+/g, "\\s+"));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])(?:${escaped.join("|")})(?![\\p{L}\\p{N}_])`, "giu");
  const parts = [];
  const found = new Set();
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    parts.push(text.slice(end, match.index), element("mark", {}, match[0]));
    found.add(plain(match[0]));
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return { parts, missing: words.filter((word) => !found.has(plain(word))) };
}

function plain(word) {
  return word.toLowerCase().replace(/\s+/g, " ");
}

// Any JSON value as people read it.
function readable(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (typeof value !== "object") return String(value);
  if (!Array.isArray(value)) return facts(value);
  if (!value.length) return "none";
  if (value.every(simple)) return value.map(readable).join(", ");
  return element("ul", {}, ...value.map((one) => element("li", {}, line(one))));
}

function simple(value) {
  return value === null || typeof value !== "object";
}

// What a list holds, on one line where that can be.
function line(value) {
  if (simple(value) || !Object.values(value).every(simple)) return readable(value);
  if (Array.isArray(value)) return value.map(readable).join(" · ");
  return Object.entries(value)
    .map(([name, one]) => `${name.replaceAll("_", " ")}: ${readable(one)}`)
    .join(" · ");
}

function facts(values) {
  const rows = Object.entries(values).flatMap(([name, value]) => [
    element("dt", {}, name.replaceAll("_", " ")),
    element("dd", {}, readable(value)),
  ]);
  return rows.length ? element("dl", { class: "facts" }, ...rows) : "none";
}

function reply(one) {
  const tokens = [
    [one.input_tokens, "in"],
    [one.output_tokens, "out"],
  ].filter(([count]) => typeof count === "number");
  const about = [
    one.model || "model not named",
    one.cached ? "from the cache" : null,
    tokens.length ? "tokens: " + tokens.map((pair) => pair.join(" ")).join(", ") : null,
  ];
  return element(
    "div",
    { class: "reply" },
    element("p", { class: "beside" }, about.filter(Boolean).join(" · ")),
    one.error ? element("p", { class: "failure" }, `Error: ${one.error}`) : null,
    one.text ? element("p", { class: "text" }, one.text) : null
  );
}

function folded(title, ...children) {
  return element("details", {}, element("summary", {}, title), ...children);
}

function picture(item) {
  if (item.picture) {
    const address = "pictures/" + encodeURIComponent(item.picture);
    const alt = `Picture ${item.image_id || "of item " + item.id}`;
    return element("a", { href: address, class: "picture" }, element("img", { src: address, alt, loading: "lazy" }));
  }
  if (!item.link) return element("p", { class: "picture none" }, item.missing ? "picture not found" : "no picture");
  const link = element("a", { href: item.link, target: "_blank", rel: "noreferrer noopener" }, "picture on the web");
  return element("p", { class: "picture none" }, link);
}

function card(item) {
  const answer = highlighted(item.answer, item.marked);
  const about = [item.category, item.image_id, item.several ? `run ${item.run}` : null].filter(Boolean).join(" · ");
  const badge = item.label ? element("span", { class: `badge ${item.label}` }, item.label) : null;
  const missing = answer.missing.length
    ? element("p", { class: "beside" }, `Marked, but not word for word in the answer: ${answer.missing.join(", ")}`)
    : null;
  const text = item.answer
    ? element("p", { class: "answer" }, ...answer.parts)
    : element("p", { class: "answer beside" }, "(empty answer)");
  return element(
    "article",
    { class: "card", "aria-label": `Item ${item.id}` },
    picture(item),
    element(
      "div",
      { class: "told" },
      element("p", { class: "about" }, element("strong", {}, item.id), element("span", {}, about), badge),
      element("h3", {}, item.question),
      text,
      missing,
      item.failed ? element("p", { class: "failure" }, `Failed: ${item.failed}`) : null,
      Object.keys(item.values).length ? facts(item.values) : null,
      item.replies.length ? folded(`Judge replies (${item.replies.length})`, ...item.replies.map(reply)) : null,
      Object.keys(item.counts).length ? folded("What it adds to the sums", facts(item.counts)) : null
    )
  );
}

// Records without a number come last, whichever way it goes.
function by(value, sign = 1) {
  return (a, b) => {
    const [one, other] = [value(a), value(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (one - other);
  };
}

const natural = new Intl.Collator("en", { numeric: true });
const records = JSON.parse(document.getElementById("data").textContent);

new Table({
  form: document.getElementById("controls"),
  list: document.getElementById("items"),
  shown: document.getElementById("shown"),
  pages: document.getElementById("pages"),
  top: document.getElementById("items-title"),
  records,
  text: (item) => [item.id, item.image_id, item.question, item.answer].join("\n"),
  filters: {
    category: (item) => item.category || "none",
    label: (item) => item.label,
    run: (item) => item.run,
  },
  sorts: {
    "": (a, b) => natural.compare(a.id, b.id),
    low: by((item) => item.score),
    high: by((item) => item.score, -1),
    marked: by((item) => item.marked.length, -1),
    long: by((item) => item.answer.length, -1),
    short: by((item) => item.answer.length),
  },
  draw: card,
});
