// The ports, each with what its last minute and a half was like.

import { h, icon, mark, say } from "./dom.js";
import { LENGTH } from "./history.js";
import { count, duration, milliseconds, rate } from "./numbers.js";
import { path } from "./path.js";
import { portSettings } from "./port_settings.js";
import { dropped } from "./reasons.js";
import { sparkline } from "./sparkline.js";
import { table } from "./table.js";
import { t } from "./texts.js";

const SLIDERS = icon("M2 4.5H9M13 4.5H14M11 2.5V6.5M2 11.5H4M8 11.5H14M6 9.5V13.5");

let here = null;

const spark = (kind, floor, values, words) => (cell, port) => {
  cell.spark ??= sparkline(kind);
  cell.text ??= h("span");
  if (!cell.firstChild) cell.append(h("div", { class: "with-spark" }, cell.text, cell.spark));
  cell.spark.draw(values(port), LENGTH, floor);
  say(cell.text, words(port));
};

function state(cell, port) {
  cell.lamp ??= h("i", { class: "lamp", "aria-hidden": "true" });
  cell.text ??= h("span");
  if (!cell.firstChild) cell.append(h("span", { class: "with-lamp" }, cell.lamp, cell.text));
  mark(cell.lamp, "class", `lamp ${port.state}`);
  const more = [port.blocked, port.impaired && t("impaired")].filter(Boolean).join(", ");
  say(cell.text, more ? `${t(port.state)} · ${more}` : t(port.state));
}

const name = (app) => (cell, port) => {
  if (!cell.firstChild) {
    cell.append(h("span", { class: "named" }, h("a", { href: `#settings/${encodeURIComponent(port.name)}` }),
      app.may("operate") ? h("button", { type: "button", class: "small quiet square", title: t("change"),
        "aria-label": `${t("settings")}: ${port.name}`, on: { click: () => portSettings(app, port.name) } }, SLIDERS.cloneNode(true)) : null));
  }
  const [link] = cell.firstChild.children;
  say(link, port.name);
  mark(link, "title", port.name);
};

export const ports = {
  key: "ports",

  draw(main, app) {
    const of = (port) => app.history.of(port);
    const found = table(t("ports"), [
      { head: t("port"), number: true, cell: (port) => port.port, sort: (port) => port.port },
      { head: t("name"), head_of_row: true, update: name(app), sort: (port) => port.name },
      { head: t("state"), update: state, sort: (port) => port.state },
      { head: t("address"), cell: (port) => port.address?.split("/")[0], sort: (port) => port.address },
      { head: t("via"), update: path, sort: (port) => port.via },
      { head: t("in"), update: spark("rx", 1000, (port) => of(port).rx, (port) => rate(of(port).now.rx)), sort: (port) => of(port).now.rx },
      { head: t("out"), update: spark("tx", 1000, (port) => of(port).tx, (port) => rate(of(port).now.tx)), sort: (port) => of(port).now.tx },
      { head: t("rtt"), update: spark("rtt", 5, (port) => of(port).rtt, (port) => milliseconds(port.rtt_ms)), sort: (port) => port.rtt_ms ?? -1 },
      { head: t("dropped"), number: true, cell: (port) => count(dropped(port.drops)), sort: (port) => dropped(port.drops) },
      { head: t("queue"), number: true, cell: (port) => count(port.queued_frames), sort: (port) => port.queued_frames },
      { head: t("since"), cell: (port) => port.since && duration(Date.now() / 1000 - port.since).split(" ")[0], sort: (port) => port.since ?? 0 },
    ], (port) => port.port, t("no_ports"));
    const find = h("input", { type: "search", "aria-label": t("find_port"), placeholder: t("find_port"),
      value: app.argument ?? "", on: { input: () => this.update(app) } });
    here = { found, find };
    main.append(h("h1", null, t("ports")), h("div", { class: "row" }, find),
      h("div", { class: "card" }, found.node));
  },

  update(app) {
    if (app.status === null) return;
    const word = here.find.value.trim().toLowerCase();
    here.found.show(app.status.ports.filter((port) =>
      [port.port, port.name, port.address, port.via].join(" ").toLowerCase().includes(word)));
  },
};
