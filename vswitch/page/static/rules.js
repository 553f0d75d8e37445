// Who may open what to whom: the rules in force, and the way to others.

import * as api from "./api.js";
import { h, mark, say } from "./dom.js";
import { count } from "./numbers.js";
import { RuleEditor } from "./rule_editor.js";
import { table } from "./table.js";
import { t } from "./texts.js";
import { trial } from "./trial.js";
import { badge, unsaved } from "./unsaved.js";

const EVERY = 3; // status answers for each look at the rules

let here = null;
let draft = null; // {network, table, tag}: what was written when the section was left

function rule(cell, each) {
  if (!cell.firstChild) cell.append(h("span", { class: "rule" }, h("span"), h("code")));
  const [verdict, text] = cell.firstChild.children;
  const [first, ...rest] = each.rule.split(" ");
  mark(verdict, "class", `badge ${first === "allow" ? "good" : "bad"}`);
  say(verdict, t(first));
  say(text, rest.join(" ").replace("->", "→"));
}

export const rules = {
  key: "rules",

  draw(main, app) {
    const found = table(t("rules"), [
      { head: "#", number: true, cell: (each) => each.number },
      { head: t("rule"), head_of_row: true, update: rule },
      { head: t("flows"), number: true, cell: (each) => count(each.allowed), sort: (each) => each.allowed },
      { head: t("denied"), number: true, cell: (each) => count(each.denied), sort: (each) => each.denied },
    ], (each) => each.number, t("no_rules"));
    const note = h("p", { class: "note" });
    const mine = badge();
    mine.hidden = true;
    const edit = app.may("admin") ? h("button", { type: "button", on: { click: () => open(app) } }, t("edit_rules")) : null;
    const facts = h("dl", { class: "about" });
    const strip = unsaved(app);
    const place = h("div");
    const box = trial(app, () => here?.editor ?? null);
    const view = h("div", { class: "stack" }, note, found.node, facts);
    here = { found, note, box, view, facts, mine, edit, place, strip, editor: null, turns: 0 };
    strip.addEventListener("saved", () => look(app));
    main.append(h("h1", null, t("rules")), strip,
      h("section", { class: "card" }, h("div", { class: "row head" }, h("h2", null, t("rules")), mine, edit), view, place), box);
    if (draft !== null && draft.network === app.network && edit !== null) begin(app, { ...draft, dirty: true });
    draft = null;
  },

  update(app) {
    here.box.names();
    here.editor?.update();
    if (here.turns++ % EVERY === 0) look(app);
  },

  leave() {
    const { editor } = here ?? {};
    editor?.stop();
    if (editor?.dirty) draft = { network: editor.network, table: editor.table(), tag: editor.tag };
    here = null;
  },
};

// Who logs in next is somebody else.
export function forgetDraft() {
  draft = null;
}

function look(app) {
  if (here === null) return;
  here.strip.look();
  api.get("v1/rules").then((said) => {
    if (here === null) return;
    here.found.show(said.rules.map((each, index) => ({ ...each, number: index + 1 })));
    here.mine.hidden = said.said !== "live";
    say(here.note, [t(`else_${said.default}`), t("rules_state", { tests: said.tests.length, flows: said.flows }),
      said.unknown.length ? t("unknown_names", { names: said.unknown.join(", ") }) : ""].join(" "));
    const facts = [...Object.entries(said.groups).map(([name, names]) => [`${t("group")} ${name}`, names.join(", ")]),
      ...said.tests.map((each, index) => [`${t("rule_test")} ${index + 1}`, each.replace("->", "→")])];
    const text = JSON.stringify(facts);
    if (text === here.said) return;
    here.said = text;
    here.facts.replaceChildren(...facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
    here.facts.hidden = facts.length === 0;
  }, app.fail);
}

async function open(app) {
  try {
    const { said, tag } = await api.tagged("v1/rules");
    const table = { default: said.default, list: said.rules.map((each) => each.rule), tests: said.tests, groups: said.groups };
    if (here !== null && here.editor === null) begin(app, { table, tag });
  } catch (error) {
    app.fail(error);
  }
}

function begin(app, how) {
  if (app.members === null) api.get("v1/members").then((said) => (app.members = said.members), app.fail);
  const mine = new RuleEditor(app, how, ({ again = false } = {}) => {
    draft = null;
    if (here?.editor !== mine) return; // it was left before it was over
    mine.stop();
    here.editor = null;
    here.place.replaceChildren();
    here.box.undraft();
    here.view.hidden = here.edit.hidden = false;
    here.edit.focus();
    look(app);
    if (again) open(app);
  });
  here.editor = mine;
  here.view.hidden = here.edit.hidden = true;
  here.place.replaceChildren(here.editor.node);
  here.editor.node.querySelector("input, button").focus();
}
