"use strict";
// Elements, scales, numbers, and one tooltip that mouse and keyboard share. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/** An element of HTML: attributes, then children; strings become text nodes. */
function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false && child !== "") element.append(child);
  }
  return element;
}

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const isLoss = (metric) => metric === "loss" || metric.endsWith("_loss");

/** A metric as people read it: losses as they are, all else as per cent. */
function metricText(metric, value) {
  if (value === null || value === undefined) return "none";
  return isLoss(metric) ? value.toPrecision(3) : `${(100 * value).toFixed(1)} %`;
}

function bytesText(n) {
  if (n === null || n === undefined) return "not known";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (n >= 1000 && k < units.length - 1) [n, k] = [n / 1000, k + 1];
  return `${k && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[k]}`;
}

function secondsText(n) {
  if (n === null || n === undefined) return "not measured";
  if (n < 10) return `${n.toFixed(n < 1 ? 2 : 1)} s`;
  if (n < 120) return `${Math.round(n)} s`;
  const [hours, minutes] = [Math.floor(n / 3600), Math.floor(n / 60) % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${Math.round(n) % 60} s`;
}

const plural = (n, one) => `${number.format(n)} ${one}${n === 1 ? "" : "s"}`;

/** A linear scale from a domain to a range. */
const linear = ([a, b], [x, y]) => (value) => x + ((value - a) / (b - a || 1)) * (y - x);

/** Round values that cover a domain, about `count` of them. */
function ticks([low, high], count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= raw);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(v);
  return found;
}

/** Labels pushed apart until none overlap, by their wished y; gives the y of each. */
function apart(wished, gap, low, high) {
  const order = wished.map((y, k) => [y, k]).sort((a, b) => a[0] - b[0]);
  let last = -Infinity;
  for (const entry of order) last = entry[0] = Math.max(entry[0], last + gap, low);
  let next = high + gap;
  for (const entry of order.reverse()) next = entry[0] = Math.min(entry[0], next - gap);
  const placed = [];
  for (const [y, k] of order) placed[k] = y;
  return placed;
}

const tip = h("div", { id: "tip", role: "status", "aria-live": "polite" });

/** Show lines of text beside a place of the window. */
function showTip(lines, x, y) {
  tip.replaceChildren(...lines.filter(Boolean).map((line, k) => h(k ? "div" : "strong", null, line)));
  tip.classList.add("shown");
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x + 14), document.documentElement.clientWidth - width - 8);
  const top = y + 18 + height > innerHeight ? y - height - 12 : y + 18;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${Math.max(8, top) + scrollY}px`;
}

const hideTip = () => tip.classList.remove("shown");

/** A mark that tells `lines` to the mouse and, one arrow key after the other, to the keyboard. */
function telling(mark, lines) {
  mark.setAttribute("data-mark", "");
  mark.setAttribute("tabindex", "-1");
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", lines.filter(Boolean).join(", "));
  mark.addEventListener("pointermove", (e) => showTip(lines, e.clientX, e.clientY));
  mark.addEventListener("pointerleave", hideTip);
  mark.addEventListener("focus", () => {
    const box = mark.getBoundingClientRect();
    showTip(lines, box.left + box.width / 2, box.top + box.height / 2);
  });
  mark.addEventListener("blur", hideTip);
  return mark;
}

const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

/** A drawing: one stop of the tab key, in which arrows go from mark to mark. */
function drawing(width, height, label, ...children) {
  const svg = s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label, class: "drawing",
  }, ...children);
  const marks = () => [...svg.querySelectorAll("[data-mark]")];
  if (marks().length) marks()[0].setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const way = ARROWS[event.key];
    if (event.key === "Escape") hideTip();
    if (!way || !event.target.hasAttribute("data-mark")) return;
    event.preventDefault();
    const from = centre(event.target);
    let [best, found] = [Infinity, null];
    for (const mark of marks()) {
      const to = centre(mark);
      const along = (to[0] - from[0]) * way[0] + (to[1] - from[1]) * way[1];
      const aside = Math.abs((to[0] - from[0]) * way[1]) + Math.abs((to[1] - from[1]) * way[0]);
      if (mark !== event.target && along > 0.5 && along + 3 * aside < best) {
        [best, found] = [along + 3 * aside, mark];
      }
    }
    if (!found) return;
    event.target.setAttribute("tabindex", "-1");
    found.setAttribute("tabindex", "0");
    found.focus();
  });
  return svg;
}

function centre(mark) {
  const box = mark.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}

/**
 * A table of coloured cells, one path a colour, so that thousands cost little. The keyboard moves a cursor over it.
 * `paint(row, column)` gives a class or null, `tell(row, column)` lines, `chosen(row, column)` reacts to a click.
 */
function cells({ rows, columns, x, y, size, gap, paint, tell, chosen, label }) {
  const [wide, high] = size;
  const paths = new Map();
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const colour = paint(r, c);
      if (!colour) continue;
      const [left, top] = [x + c * wide + gap / 2, y + r * high + gap / 2];
      const cell = `M${left.toFixed(1)} ${top.toFixed(1)}h${(wide - gap).toFixed(1)}v${(high - gap).toFixed(1)}H${left.toFixed(1)}z`;
      paths.set(colour, (paths.get(colour) || "") + cell);
    }
  }
  const cursor = s("rect", { class: "cursor", x, y, width: wide, height: high, rx: 2, visibility: "hidden" });
  const ground = s("rect", { class: "ground", x, y, width: columns * wide, height: rows * high });
  const group = s("g", {
    class: "cells", tabindex: "0", role: "application", "aria-roledescription": "chart", "aria-label": `${label}. Arrow keys move through it.`,
  }, ground, [...paths].map(([colour, d]) => s("path", { class: colour, d })), cursor);
  let at = [0, 0];
  const move = (r, c, px, py) => {
    at = [r, c];
    fill(cursor, { x: x + c * wide, y: y + r * high, visibility: "visible" }, []);
    const box = cursor.getBoundingClientRect();
    showTip(tell(r, c), px ?? box.left + box.width / 2, py ?? box.top + box.height);
  };
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    hideTip();
  };
  const under = (event) => {
    const box = ground.getBoundingClientRect();
    const c = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const r = Math.floor(((event.clientY - box.top) / box.height) * rows);
    return r >= 0 && c >= 0 && r < rows && c < columns ? [r, c] : null;
  };
  group.addEventListener("pointermove", (event) => {
    const place = under(event);
    if (place) move(...place, event.clientX, event.clientY);
  });
  group.addEventListener("pointerleave", leave);
  group.addEventListener("focus", () => group.matches(":focus-visible") && move(...at));
  group.addEventListener("blur", leave);
  group.addEventListener("click", (event) => {
    const place = under(event);
    if (place && chosen) chosen(...place);
  });
  group.addEventListener("keydown", (event) => {
    const way = ARROWS[event.key];
    if (way) {
      event.preventDefault();
      move(Math.min(Math.max(at[0] + way[1], 0), rows - 1), Math.min(Math.max(at[1] + way[0], 0), columns - 1));
    } else if (event.key === "Enter" && chosen) chosen(...at);
    else if (event.key === "Escape") leave();
  });
  return group;
}

/** A table of the same numbers, for those who would rather read them. */
function numbers(summary, headings, rows) {
  return h("details", null, h("summary", null, summary), table(headings, rows));
}

/** A table; a heading that begins with "#" is one of numbers. */
function table(headings, rows) {
  const right = headings.map((text) => text.startsWith("#"));
  const cell = (tag) => (value, k) => h(tag, { class: right[k] && "number", scope: tag === "th" && "col" }, value);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "table" }, h("table", null,
    h("thead", null, h("tr", null, headings.map((text) => text.replace(/^#/, "")).map(cell("th")))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map(cell("td")))))));
}
