// Who was heard where.

import * as api from "./api.js";
import { confirm } from "./dialogs.js";
import { h, say } from "./dom.js";
import { duration } from "./numbers.js";
import { table } from "./table.js";
import { t } from "./texts.js";

const EVERY = 2; // status answers for each look at the table
const MOST = 500; // rows; the search finds the others

let here = null;

export const macs = {
  key: "macs",

  draw(main, app) {
    const found = table(t("macs"), [
      { head: t("mac"), head_of_row: true, cell: (each) => each.mac, sort: (each) => each.mac },
      { head: t("vlan"), number: true, cell: (each) => each.vlan || "–", sort: (each) => each.vlan },
      { head: t("port"), cell: (each) => each.name || each.port, sort: (each) => each.name },
      { head: t("kind"), cell: (each) => each.kind, sort: (each) => each.kind },
      { head: t("age"), cell: (each) => t("ago", { age: duration(each.age_s) }), sort: (each) => each.age_s },
    ], (each) => `${each.vlan} ${each.mac}`, t("no_macs"));
    const search = h("input", { type: "search", "aria-label": t("search_macs"),
      placeholder: t("search_macs"), on: { input: () => show() } });
    const total = h("p", { class: "note", "aria-live": "polite" });
    const flush = app.may("operate") && h("button", { type: "button", class: "quiet", on: { click: async () => {
      if (!(await confirm(t("flush_ask"), t("flush_detail"), t("flush")))) return;
      api.remove("v1/macs").then(() => load(app), app.fail);
    } } }, t("flush"));
    here = { found, search, total, said: null, turns: 0 };
    main.append(h("h1", null, t("macs")),
      h("div", { class: "row" }, search, total, flush || null),
      h("div", { class: "card" }, found.node));
  },

  update(app) {
    if (here.turns++ % EVERY === 0) load(app);
  },

  leave() {
    here = null;
  },
};

function load(app) {
  api.get("v1/macs").then((said) => {
    if (here === null) return;
    here.said = said;
    show();
  }, app.fail);
}

function show() {
  if (!here?.said) return;
  const { macs: all, entries, capacity } = here.said;
  const words = here.search.value.toLowerCase().split(/\s+/);
  const text = (each) => `${each.mac} ${each.mac.replaceAll(":", "")} ${each.name} ${each.vlan} ${each.kind}`.toLowerCase();
  const fit = all.filter((each) => words.every((word) => text(each).includes(word)));
  here.found.show(fit.slice(0, MOST));
  say(here.total, t("macs_of", { shown: Math.min(fit.length, MOST), entries, capacity }));
}
