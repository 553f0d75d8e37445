// What went no further, by reason, and what each reason means.

import { card, h, say } from "./dom.js";
import { count } from "./numbers.js";
import { USUAL, meaning } from "./reasons.js";
import { table } from "./table.js";
import { t } from "./texts.js";

let here = null;

// {reason: {where: count}} as rows, most first; `before` are the counts of the last look.
function rows(found, before) {
  return [...found].map(([reason, where]) => {
    const total = [...where.values()].reduce((sum, each) => sum + each, 0);
    const places = [...where].sort((a, b) => b[1] - a[1]);
    const growing = before.has(reason) && total > before.get(reason);
    before.set(reason, total);
    return { reason, places, total, growing };
  }).sort((a, b) => b.total - a.total);
}

function gather(status, key) {
  const found = new Map();
  const add = (where, drops) => {
    for (const [reason, many] of Object.entries(drops)) {
      if (!found.has(reason)) found.set(reason, new Map());
      found.get(reason).set(where, (found.get(reason).get(where) ?? 0) + many);
    }
  };
  for (const port of status.ports) add(port.name, port[key]);
  if (key === "transport_drops") add(t("whole_switch"), status.transport_drops);
  return found;
}

const columns = (kind) => [
  { head: t("reason"), head_of_row: true, sort: (each) => each.reason, update: (cell, each) => {
    if (!cell.firstChild) cell.append(h("code"), " ", h("span", { class: "badge" }));
    say(cell.firstChild, each.reason);
    const word = each.growing ? t("growing") : kind === "frames" && USUAL.has(each.reason) ? t("usual") : "";
    cell.lastChild.className = each.growing ? "badge bad" : "badge";
    cell.lastChild.hidden = !word;
    say(cell.lastChild, word);
  } },
  { head: t("how_many"), number: true, cell: (each) => count(each.total), sort: (each) => each.total },
  { head: t("means"), long: true, cell: (each) => meaning(each.reason, kind) },
  { head: t("where"), cell: (each) => each.places.slice(0, 4).map(([name, many]) => `${name} ${count(many)}`).join(", ")
    + (each.places.length > 4 ? " …" : "") },
];

export const drops = {
  key: "drops",

  draw(main) {
    const frames = table(t("frames_dropped"), columns("frames"), (each) => each.reason, t("no_drops"));
    const datagrams = table(t("datagrams_dropped"), columns("datagrams"), (each) => each.reason, t("no_drops"));
    here = { frames, datagrams, before: [new Map(), new Map()] };
    main.append(h("h1", null, t("drops")), h("p", { class: "note" }, t("drops_lead")),
      card(t("frames_dropped"), frames.node), card(t("datagrams_dropped"), datagrams.node));
  },

  update(app) {
    here.frames.show(rows(gather(app.status, "drops"), here.before[0]));
    here.datagrams.show(rows(gather(app.status, "transport_drops"), here.before[1]));
  },
};
