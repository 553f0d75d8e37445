// Who may connect: rename, disable, revoke; who is invited is in invite.js.

import * as api from "./api.js";
import { askName, confirm } from "./dialogs.js";
import { h, mark, say } from "./dom.js";
import { inviteCard } from "./invite.js";
import { day, duration } from "./numbers.js";
import { table } from "./table.js";
import { t } from "./texts.js";

const EVERY = 2; // status answers for each look at the members

let here = null;

function stateOf(member) {
  if (member.revoked !== null) return { kind: "down", word: t("revoked", { day: day(member.revoked) }) };
  if (member.disabled !== null) return { kind: "blocked", word: t("disabled") };
  if (member.connected) return { kind: "up", word: t("connected") };
  return { kind: "off", word: t("away_member") };
}

function state(cell, member) {
  if (!cell.firstChild) {
    cell.append(h("span", { class: "with-lamp" }, h("i", { "aria-hidden": "true" }), h("span")));
  }
  const { kind, word } = stateOf(member);
  const [lamp, text] = cell.firstChild.children;
  mark(lamp, "class", `lamp ${kind}`);
  say(text, word);
}

const button = (word, about, act, kind = "quiet") =>
  h("button", { type: "button", class: `small ${kind}`, "aria-label": `${word}: ${about}`, on: { click: act } }, word);

// The buttons of a member are made anew when what can be done with it has changed, and only then.
const actions = (app) => (cell, member) => {
  const what = JSON.stringify([member.revoked === null, member.disabled === null, member.routes, member.offered]);
  if (cell.what === what) return;
  cell.what = what;
  const { name } = member;
  const path = `v1/members/${api.part(name)}`;
  const then = (key, values) => [() => {
    app.say(t(key, values));
    load(app);
  }, app.fail];
  const done = [];
  if (member.offered.length && app.may("admin")) {
    const networks = member.offered.join(", ");
    done.push(button(t("approve"), name, async () => {
      if (!(await confirm(t("approve_ask", { name, networks }), t("approve_detail"), t("approve")))) return;
      api.patch(path, { routes: [...member.routes, ...member.offered] }).then(...then("approved", { name, networks }));
    }));
  }
  if (member.revoked === null && app.may("admin")) {
    done.push(button(t("rename"), name, async () => {
      const to = await askName(t("rename_ask", { name }), name);
      if (to && to !== name) api.patch(path, { name: to }).then(...then("renamed", { name, to }));
    }));
  }
  if (member.revoked === null && app.may("operate")) {
    done.push(member.disabled !== null
      ? button(t("enable"), name, () => api.post(`${path}/enable`).then(...then("is_enabled", { name })))
      : button(t("disable"), name, async () => {
        if (!(await confirm(t("disable_ask", { name }), t("disable_detail"), t("disable")))) return;
        api.post(`${path}/disable`).then(...then("is_disabled", { name }));
      }));
  }
  if (member.revoked === null && app.may("admin")) {
    done.push(button(t("revoke"), name, async () => {
      if (!(await confirm(t("revoke_ask", { name }), t("revoke_detail"), t("revoke")))) return;
      api.remove(path).then(...then("is_revoked", { name }));
    }, "quiet danger-text"));
  }
  cell.replaceChildren(h("div", { class: "row tight" }, done));
};

export const members = {
  key: "members",

  draw(main, app) {
    const found = table(t("members"), [
      { head: t("name"), head_of_row: true, cell: (each) => each.name, sort: (each) => each.name },
      { head: t("state"), update: state, sort: (each) => stateOf(each).word },
      { head: t("address"), cell: (each) => each.address?.split("/")[0], sort: (each) => each.address },
      { head: t("via"), cell: (each) => each.via },
      { head: t("routes"), cell: (each) => [...each.routes, ...each.offered.map((net) => `(${net})`)].join(" ") || null },
      { head: t("last_seen"), cell: (each) => each.last_seen && t("ago", { age: duration(Date.now() / 1000 - each.last_seen).split(" ")[0] }), sort: (each) => each.last_seen ?? 0 },
      { head: t("key"), update: (cell, each) => {
        if (!cell.firstChild) cell.append(h("code"));
        say(cell.firstChild, each.fingerprint);
      } },
      { head: t("actions"), update: actions(app) },
    ], (each) => `${each.name} ${each.fingerprint} ${each.created}`, t("no_members"));
    const revoked = h("input", { type: "checkbox", on: { change: () => show() } });
    const invite = app.may("admin") ? inviteCard(app, () => load(app)) : null;
    here = { found, invite, revoked, turns: 0, said: null };
    main.append(...[h("h1", null, t("members")), invite,
      h("div", { class: "card" }, found.node, h("label", { class: "check" }, revoked, t("show_revoked")))].filter(Boolean));
  },

  update(app) {
    if (here.turns++ % EVERY === 0) load(app);
  },

  leave() {
    here = null;
  },
};

function load(app) {
  api.get("v1/members").then((said) => {
    app.members = said.members;
    if (here === null) return;
    here.said = said;
    show();
  }, app.fail);
}

function show() {
  if (!here?.said) return;
  here.found.show(here.said.members.filter((each) => here.revoked.checked || each.revoked === null));
  here.invite?.show(here.said.invites);
}
