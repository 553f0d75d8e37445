// Who may use the API and this page: tokens, each with a role. A token is shown once.

import * as api from "./api.js";
import { confirm } from "./dialogs.js";
import { card, h } from "./dom.js";
import { nameInput } from "./names.js";
import { day, duration } from "./numbers.js";
import { copied } from "./secret.js";
import { session } from "./session.js";
import { table } from "./table.js";
import { t } from "./texts.js";

const EVERY = 5; // status answers for each look at the tokens
const ROLES = ["read", "operate", "admin"];

let here = null;

const revoke = (app) => (cell, each) => {
  if (cell.firstChild) return;
  const { name } = each;
  cell.append(h("button", { type: "button", class: "small quiet danger-text", "aria-label": `${t("revoke")}: ${name}`,
    on: { click: async () => {
      const own = name === session.name ? t("revoke_own_token") : t("revoke_token_detail");
      if (!(await confirm(t("revoke_token_ask", { name }), own, t("revoke")))) return;
      api.remove(`v1/tokens/${api.part(name)}`).then(() => {
        app.say(t("is_revoked", { name }));
        load(app);
      }, app.fail);
    } } }, t("revoke")));
};

function role(cell, each) {
  if (!cell.firstChild) cell.append(h("span", { class: `badge role ${each.role}` }, t(each.role)));
}

function made(app, said, place) {
  const { code, button } = copied(app, said.token, t("token_of", { name: said.name }));
  place.replaceChildren(h("div", { class: "invitation" }, h("div", null,
    h("p", null, t("token_once", { name: said.name, role: t(said.role) })), code,
    h("div", { class: "row" }, button,
      h("button", { type: "button", class: "quiet", on: { click: () => place.replaceChildren() } }, t("done"))))));
}

function form(app, place) {
  const name = nameInput();
  const kind = h("select", { "aria-describedby": "role-help" }, ROLES.map((each) => h("option", { value: each }, t(each))));
  const button = h("button", { class: "primary" }, t("create_token"));
  const node = h("form", { class: "row", on: { submit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      made(app, await api.post("v1/tokens", { name: name.value.trim(), role: kind.value }), place);
      node.reset();
      load(app);
    } catch (error) {
      app.fail(error);
    }
    button.disabled = false;
  } } }, h("label", null, t("token_name"), name), h("label", null, t("role"), kind), button);
  return node;
}

export const tokens = {
  key: "tokens",
  role: "admin",

  draw(main, app) {
    const found = table(t("tokens"), [
      { head: t("name"), head_of_row: true, sort: (each) => each.name,
        cell: (each) => (each.name === session.name ? t("your_own", { name: each.name }) : each.name) },
      { head: t("role"), update: role, sort: (each) => ROLES.indexOf(each.role) },
      { head: t("created"), cell: (each) => day(each.created), sort: (each) => each.created },
      { head: t("last_used"), sort: (each) => each.used ?? 0,
        cell: (each) => each.used && t("ago", { age: duration(Date.now() / 1000 - each.used).split(" ")[0] }) },
      { head: t("actions"), update: revoke(app) },
    ], (each) => `${each.name} ${each.created}`, t("nothing"));
    const place = h("div", { "aria-live": "polite" });
    here = { found, turns: 0 };
    main.append(h("h1", null, t("tokens")),
      card(t("new_token"), h("p", { class: "note", id: "role-help" }, t("tokens_lead")), form(app, place), place),
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
  api.get("v1/tokens").then((said) => here?.found.show(said.tokens), app.fail);
}
