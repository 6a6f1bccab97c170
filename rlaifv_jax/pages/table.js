// A list of records on a page: searched, filtered, sorted, a page of it drawn, and all of that kept in the address.
"use strict";

// An element. Text goes in as text: nothing that a record says is ever read as HTML.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

class Table {
  // form: its controls are named `q` (search), `sort`, and after the filters. text: record → what is searched.
  // filters: name → (record → value). sorts: name → comparison, '' by default. draw: record → element.
  constructor({ form, list, shown, pages, top, records, text, filters, sorts, draw, size = 50 }) {
    Object.assign(this, { form, list, shown, pages, top, records, filters, sorts, draw, size });
    this.texts = records.map((record) => text(record).toLowerCase());
    this.values = {};
    for (const [name, value] of Object.entries(filters)) {
      if (form.elements[name]) this.values[name] = records.map((record) => String(value(record)));
    }
    for (const name of Object.keys(this.values)) {
      for (const { place } of this.choices(name)) place.dataset.text = place.textContent;
    }
    form.addEventListener("input", () => this.update(0));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector("[data-clear]").addEventListener("click", () => {
      form.reset();
      this.update(0);
    });
    for (const button of pages.querySelectorAll("button")) {
      button.addEventListener("click", () => this.turn(Number(button.dataset.step)));
    }
    window.addEventListener("hashchange", () => {
      if (!location.hash || location.hash.includes("=")) this.restore(); // others are links within the page
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "radio") return;
      event.preventDefault();
      form.elements.q.focus();
    });
    form.hidden = false;
    this.restore();
  }

  // Of a filter: every value that can be chosen, and the element that says so.
  choices(name) {
    const control = this.form.elements[name];
    if (control.options) return [...control.options].map((option) => ({ value: option.value, place: option }));
    return [...control].map((radio) => ({ value: radio.value, place: radio.nextElementSibling }));
  }

  state() {
    const state = new URLSearchParams();
    for (const [name, value] of new FormData(this.form)) if (value !== "") state.set(name, value);
    return state;
  }

  restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    this.form.reset();
    for (const [name, value] of state) {
      const control = this.form.elements[name];
      const choices = control && (control.options || (control.length ? control : null));
      if (control && (!choices || [...choices].some((one) => one.value === value))) control.value = value;
    }
    this.update(Math.max(0, (parseInt(state.get("page"), 10) || 1) - 1));
  }

  // Which records pass every condition, but for those of the filter named `but`.
  passing(state, but) {
    const words = (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const asked = Object.entries(this.values).filter(([name]) => name !== but && state.has(name));
    return this.records
      .map((_, place) => place)
      .filter((place) => asked.every(([name, values]) => values[place] === state.get(name)))
      .filter((place) => words.every((word) => this.texts[place].includes(word)));
  }

  count(state) {
    for (const name of Object.keys(this.values)) {
      const passing = this.passing(state, name);
      const numbers = new Map();
      for (const place of passing) {
        const value = this.values[name][place];
        numbers.set(value, (numbers.get(value) || 0) + 1);
      }
      for (const { value, place } of this.choices(name)) {
        place.textContent = `${place.dataset.text} (${value === "" ? passing.length : numbers.get(value) || 0})`;
      }
    }
  }

  update(page) {
    const state = this.state();
    const places = this.passing(state);
    const compare = this.sorts[state.get("sort") || ""];
    places.sort((a, b) => compare(this.records[a], this.records[b]) || a - b);
    const last = Math.max(0, Math.ceil(places.length / this.size) - 1);
    this.page = Math.min(page, last);
    const start = this.page * this.size;
    this.list.replaceChildren(...places.slice(start, start + this.size).map((place) => this.draw(this.records[place])));
    if (!places.length) this.list.append(element("p", { class: "empty" }, "Nothing matches."));
    this.shown.textContent = `${places.length} of ${this.records.length}`;
    this.count(state);
    const [before, after] = this.pages.querySelectorAll("button");
    this.pages.hidden = last === 0;
    before.disabled = this.page === 0;
    after.disabled = this.page === last;
    this.pages.querySelector("span").textContent = `Page ${this.page + 1} of ${last + 1}`;
    if (this.page) state.set("page", this.page + 1);
    const hash = state.toString();
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", location.href.split("#")[0] + (hash && "#" + hash));
  }

  turn(step) {
    this.update(this.page + step);
    this.top.focus({ preventScroll: true });
    this.top.scrollIntoView();
  }
}
