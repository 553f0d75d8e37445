// What the switch does besides moving frames: addresses by DHCP, published services, foreign listeners.

import * as api from "./api.js";
import { confirm } from "./dialogs.js";
import { card, h, say } from "./dom.js";
import { duration, size } from "./numbers.js";
import { reason } from "./refusals.js";
import { table } from "./table.js";
import { t } from "./texts.js";

const EVERY = 3; // status answers for each look at the leases

let here = null;

const action = (word, about, act) => (cell, each) => {
  if (!cell.firstChild) {
    cell.append(h("button", { type: "button", class: "small quiet", "aria-label": `${word}: ${about(each)}`,
      on: { click: () => act(each) } }, word));
  }
};

export const services = {
  key: "services",

  draw(main, app) {
    const may = app.may("operate");
    const end = async (lease) => {
      if (!(await confirm(t("free_ask", lease), t("free_detail"), t("free")))) return;
      api.remove(`v1/leases/${api.part(lease.address)}`).then(() => load(app), app.fail);
    };
    const unpublish = async (rule) => {
      if (!(await confirm(t("unpublish_ask", rule), t("unpublish_detail"), t("unpublish")))) return;
      api.remove("v1/published", { listen: rule.listen }).catch(app.fail);
    };
    const leases = table(t("leases"), [
      { head: t("address"), head_of_row: true, cell: (each) => each.address, sort: (each) => each.address },
      { head: t("mac"), cell: (each) => each.mac, sort: (each) => each.mac },
      { head: t("host_name"), cell: (each) => each.name || null, sort: (each) => each.name },
      { head: t("port"), cell: (each) => each.port, sort: (each) => each.port },
      { head: t("expires"), cell: (each) => duration(each.expires_s), sort: (each) => each.expires_s },
      ...(may ? [{ head: t("actions"), update: action(t("free"), (each) => each.address, end) }] : []),
    ], (each) => each.address, t("no_leases"));
    const published = table(t("published"), [
      { head: t("listens_at"), head_of_row: true, cell: (each) => each.listen, sort: (each) => each.listen },
      { head: t("leads_to"), cell: (each) => each.to, sort: (each) => each.to },
      { head: t("address"), cell: (each) => each.address ?? (each.why && t(`why_${each.why}`)) },
      { head: t("open_now"), number: true, cell: (each) => each.open, sort: (each) => each.open },
      { head: t("total"), number: true, cell: (each) => each.total, sort: (each) => each.total },
      { head: t("moved"), cell: (each) => `↑ ${size(each.up_bytes)}  ↓ ${size(each.down_bytes)}` },
      ...(may ? [{ head: t("actions"), update: action(t("unpublish"), (each) => each.listen, unpublish) }] : []),
    ], (each) => each.listen, t("no_published"));
    const listeners = table(t("listeners"), [
      { head: t("name"), head_of_row: true, cell: (each) => each.name },
      { head: t("kind"), cell: (each) => each.kind },
      { head: t("listens_at"), cell: (each) => each.listen },
      { head: t("denied"), number: true, cell: (each) => Object.values(each.refused).reduce((sum, many) => sum + many, 0) },
    ], (each) => each.name, t("nothing"));
    const note = h("p", { class: "note" });
    const others = card(t("listeners"), listeners.node);
    here = { leases, published, listeners, note, others, turns: 0 };
    main.append(h("h1", null, t("services")), card(t("published"), may ? publishForm(app) : "", published.node),
      card(t("leases"), note, leases.node), others);
  },

  update(app) {
    here.published.show(app.status.published);
    here.listeners.show(app.status.foreign);
    here.others.hidden = app.status.foreign.length === 0;
    if (here.turns++ % EVERY === 0) load(app);
  },

  leave() {
    here = null;
  },
};

function publishForm(app) {
  const listen = h("input", { required: true, placeholder: "tcp://:8080" });
  const to = h("input", { required: true, placeholder: "pc1:80" });
  const form = h("form", { class: "row", on: { submit: (event) => {
    event.preventDefault();
    api.post("v1/published", { listen: listen.value.trim(), to: to.value.trim() })
      .then(() => form.reset(), app.fail);
  } } }, h("label", null, t("listens_at"), listen), h("label", null, t("leads_to"), to),
  h("button", { class: "primary" }, t("publish")));
  return h("div", { class: "stack" }, h("p", { class: "note" }, t("publish_lead")), form);
}

function load(app) {
  api.get("v1/leases").then((said) => {
    if (here === null) return;
    here.leases.show(said.leases);
    say(here.note, said.quiet ? t("dhcp_quiet", { server: said.quiet }) : "");
  }, (error) => {
    // A switch that is no DHCP server says so.
    if (here === null || error.status === 401) return;
    here.leases.show([]);
    say(here.note, reason(error));
  });
}
