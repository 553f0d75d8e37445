// A table, whose rows stay while what they are of is there.

import { h, keyed, mark, say } from "./dom.js";

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
