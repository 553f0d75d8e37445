// Elements, tables and numbers. Data becomes text by text nodes alone: names of members are hostile.

import { t } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [kind, heard] of Object.entries(value)) node.addEventListener(kind, heard);
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return node;
}

export const h = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Writing the same again would end a selection, and would be read aloud.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Children of `parent` for `items`, each kept as long as its key is there, so that focus stays.
export function keyed(parent, items, keyOf, create, update) {
  const known = (parent.known ??= new Map());
  const left = new Set(known.keys());
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (!left.delete(key) && known.has(key)) continue; // the same key twice
    let node = known.get(key);
    if (node === undefined) known.set(key, (node = create(item)));
    update(node, item);
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const key of left) {
    known.get(key).remove();
    known.delete(key);
  }
}

// A table with a caption, a column for each of `columns` ({key, head, cell(item) or
// update(td, item), number, long, sort(item)}), and `show(items)`.
export function table(caption, columns, keyOf, empty) {
  let order = null;
  let shown = [];
  const body = h("tbody");
  const none = h("p", { class: "empty" }, empty);
  const heads = columns.map((column) => {
    if (!column.sort) {
      return h("th", { scope: "col", class: column.number && "number" }, column.head);
    }
    const button = h("button", { type: "button", class: "sort", on: { click: turn } }, column.head);
    const head = h("th", { scope: "col", class: column.number && "number" }, button);
    function turn() {
      const down = order?.column === column && !order.down;
      order = { column, down };
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      show(shown);
    }
    return head;
  });
  const frame = h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", { class: "hidden" }, caption),
      h("thead", null, h("tr", null, heads)), body),
  );
  const create = () =>
    h("tr", null, columns.map((column) =>
      h(column.head_of_row ? "th" : "td", {
        class: column.number ? "number" : column.long && "long",
        scope: column.head_of_row && "row",
        "data-label": column.head,
      })));
  const update = (row, item) => {
    columns.forEach((column, index) => {
      const cell = row.children[index];
      if (column.update) column.update(cell, item);
      else {
        const value = column.cell(item) ?? "–";
        say(cell, String(value));
        mark(cell, "data-none", value === "–");
      }
    });
  };
  function show(items) {
    shown = items;
    if (order !== null) {
      const { column, down } = order;
      items = [...items].sort((a, b) => {
        const [x, y] = [column.sort(a), column.sort(b)];
        const by = typeof x === "number" && typeof y === "number"
          ? x - y : String(x ?? "").localeCompare(String(y ?? ""), undefined, { numeric: true });
        return down ? -by : by;
      });
    }
    keyed(body, items, keyOf, create, update);
    frame.hidden = items.length === 0;
    none.hidden = items.length !== 0;
  }
  return { node: h("div", null, frame, none), show };
}

// Numbers, as people read them.

const UNITS = ["", "k", "M", "G", "T", "P"];

export function count(number, unit = "") {
  let power = 0;
  while (number >= 999.5 && power < UNITS.length - 1) {
    number /= 1000;
    power += 1;
  }
  const digits = power === 0 ? Math.round(number) : number < 9.95 ? number.toFixed(1) : number.toFixed(0);
  return `${digits}${UNITS[power] || unit ? "\u202f" : ""}${UNITS[power]}${unit}`;
}

export const rate = (bytes) => count(bytes * 8, "bit/s");
export const size = (bytes) => count(bytes, "B");
export const milliseconds = (value) =>
  value === null || value === undefined ? "–" : `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)}\u202fms`;

export function duration(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const many = Math.floor(left / length);
    left %= length;
    if (many || (unit === "s" && !parts.length)) parts.push(`${many}\u202f${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

export const clock = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString(document.documentElement.lang, { hour12: false });
export const day = (seconds) =>
  seconds === null || seconds === undefined ? "–"
    : new Date(seconds * 1000).toLocaleString(document.documentElement.lang,
      { dateStyle: "medium", timeStyle: "short", hour12: false });

// A line of values, the newest at the right.
export function sparkline(kind) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const node = s("svg", { class: `spark ${kind}`, viewBox: "0 0 100 24",
    preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  node.draw = (values, length, floor) => {
    const most = Math.max(floor, ...values.map((each) => each ?? 0));
    const points = values.flatMap((value, index) => value === null ? [] :
      [`${(100 - (values.length - 1 - index) * 100 / (length - 1)).toFixed(1)} ${(22 - 20 * value / most).toFixed(1)}`]);
    const path = points.length ? `M${points.join("L")}` : "";
    line.setAttribute("d", path);
    area.setAttribute("d", path && `${path}L100 24L${points[0].split(" ")[0]} 24Z`);
  };
  return node;
}

// A question that has to be answered before something is done that cannot be taken back.
export function confirm(question, detail, yes, no) {
  return new Promise((answer) => {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog" },
        h("h2", { id: "question" }, question), h("p", null, detail),
        h("div", { class: "row end" },
          h("button", { value: "no", class: "quiet", autofocus: true }, no),
          h("button", { value: "yes", class: "danger" }, yes))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// The lines of an answer that refuses something, each put where it belongs by `place(line)`; those
// that it finds no place for, as one text.
export const refusals = (error, place) =>
  error.message.split("\n").filter((line) => line && !place(line)).join("\n");

// What is said of one thing that is typed.
export function complain(input, said, reason) {
  mark(input, "aria-invalid", reason ? "true" : null);
  say(said, reason);
}

// A secret that is shown once, or a command with it, and a button that copies it.
export function copied(app, text, label) {
  const code = h("code", { class: "string", tabindex: "0", role: "group", "aria-label": label }, text);
  const button = h("button", { type: "button", class: "primary", on: { click: async () => {
    try {
      await navigator.clipboard.writeText(text);
      app.say(t("copied"));
    } catch {
      getSelection().selectAllChildren(code); // the browser does not let us
    }
  } } }, t("copy"));
  return { code, button };
}

export const icon = (...paths) => s("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" },
  paths.map((d) => s("path", { d })));

export const card = (title, ...children) =>
  h("section", { class: "card" }, h("h2", null, title), ...children);
