// Who may connect: rename, disable, revoke; who is invited is in invite.js.

import * as api from "./api.js";
import { askName, confirm } from "./dialogs.js";
import { h, mark, refill, say } from "./dom.js";
import { inviteCard } from "./invite.js";
import { day, duration } from "./numbers.js";
import { path } from "./path.js";
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

function name(cell, member) {
  if (!cell.firstChild) cell.append(h("span"), h("code", { class: "under", title: t("key") }));
  const [text, key] = cell.children;
  say(text, member.name);
  say(key, member.fingerprint);
}

function seen(member) {
  if (member.connected) return t("here_now");
  return member.last_seen && t("ago", { age: duration(Date.now() / 1000 - member.last_seen, 1) });
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
  const place = `v1/members/${api.part(name)}`;
  const then = (key, values) => [() => {
    app.say(t(key, values));
    load(app);
  }, app.fail];
  const done = [];
  if (member.offered.length && app.may("admin")) {
    const networks = member.offered.join(", ");
    done.push(button(t("approve"), name, async () => {
      if (!(await confirm(t("approve_ask", { name, networks }), t("approve_detail"), t("approve")))) return;
      api.patch(place, { routes: [...member.routes, ...member.offered] }).then(...then("approved", { name, networks }));
    }));
  }
  if (member.revoked === null && app.may("admin")) {
    done.push(button(t("rename"), name, () => askName(t("rename_ask", { name }), name, async (to) => {
      await api.patch(place, { name: to });
      then("renamed", { name, to })[0]();
    })));
    done.push(member.disabled !== null
      ? button(t("enable"), name, () => api.post(`${place}/enable`).then(...then("is_enabled", { name })))
      : button(t("disable"), name, async () => {
        if (!(await confirm(t("disable_ask", { name }), t("disable_detail"), t("disable")))) return;
        api.post(`${place}/disable`).then(...then("is_disabled", { name }));
      }));
    done.push(button(t("revoke"), name, async () => {
      if (!(await confirm(t("revoke_ask", { name }), t("revoke_detail"), t("revoke")))) return;
      api.remove(place).then(...then("is_revoked", { name }));
    }, "quiet danger-text"));
  }
  refill(cell, h("div", { class: "row tight" }, done));
};

export const members = {
  key: "members",

  draw(main, app) {
    const found = table(t("members"), [
      { head: t("name"), head_of_row: true, update: name, sort: (each) => each.name },
      { head: t("state"), update: state, sort: (each) => stateOf(each).word },
      { head: t("address"), cell: (each) => each.address?.split("/")[0], sort: (each) => each.address },
      { head: t("via"), update: path },
      { head: t("routes"), cell: (each) => [...each.routes, ...each.offered.map((net) => `(${net})`)].join(" ") || null },
      { head: t("last_seen"), cell: seen, sort: (each) => (each.connected ? Infinity : each.last_seen ?? 0) },
      { head: t("actions"), wide: true, update: actions(app) },
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
