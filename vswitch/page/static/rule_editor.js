// Rules that are being written: the switch says at each step whether they are right and their tests
// hold, and goes by them once they are saved. What is typed is kept while other sections are looked at.

import * as api from "./api.js";
import { confirm } from "./dialogs.js";
import { h, icon, mark, say } from "./dom.js";
import { complain, reason as why, refusals, wrong } from "./refusals.js";
import { parts, t } from "./texts.js";

const PAUSE = 350; // ms without a key pressed until the switch is asked
const REFUSED = /^rules\.(list|tests) (\d+), (?:'.*?'|".*?"): (.*)$/;
const UP = icon("M8 13V3M3.5 7.5L8 3L12.5 7.5");
const DOWN = icon("M8 3V13M3.5 8.5L8 13L12.5 8.5");
const CROSS = icon("M4 4L12 12M12 4L4 12");

// Values that are one word: whatever has blanks in it would be read as something else.
const word = (input) => input.value.replace(/\s+/g, "");

const small = (picture, label, act, kind = "") => h("button", { type: "button", class: `small quiet square ${kind}`,
  "aria-label": label, title: label, on: { click: act } }, picture.cloneNode(true));

const choice = (label, options, chosen) => {
  const node = h("select", { "aria-label": label }, options.map(([value, text]) => h("option", { value }, text)));
  node.value = chosen;
  return node;
};

const typed = (label, value, more = {}) => h("input", { "aria-label": label, value, autocomplete: "off",
  autocapitalize: "none", spellcheck: "false", ...more });

// One line of rules or of tests; `read()` gives its text.
function line(kind, text) {
  const words = text.split(" ");
  const verdicts = kind === "list" ? [["allow", t("allow")], ["deny", t("deny")]]
    : [["allowed", t("is_allowed")], ["denied", t("is_denied")]];
  const chosen = kind === "list" ? words.shift() : words.pop();
  const [from, , to, protocol = "", what = ""] = words;
  const verdict = choice(t("verdict"), verdicts, chosen);
  const who = { list: "rule-names", placeholder: t("any") };
  const ends = [typed(t("from"), from === "any" ? "" : from, who), typed(t("to"), to === "any" ? "" : to, who)];
  const proto = typed(t("protocol"), protocol, { list: "rule-protocols", placeholder: t("any_protocol"), class: "short" });
  const ports = typed(t("to_ports"), what, { placeholder: t("any_type"), class: "short", list: "rule-types" });
  const said = h("p", { class: "bad-text" });
  const number = h("span", { class: "nth", "aria-hidden": "true" });
  const node = h("div", { role: "group" });
  const tint = () => {
    mark(node, "class", `line ${verdict.value.startsWith("allow") ? "good" : "bad"}`);
    ports.disabled = word(proto) === "";
  };
  node.addEventListener("input", tint);
  node.number = (at) => {
    say(number, String(at));
    mark(node, "aria-label", `${t(kind === "list" ? "rule" : "rule_test")} ${at}`);
  };
  node.read = () => {
    const [a, b] = ends.map((each) => word(each) || "any");
    const service = word(proto) ? ` ${word(proto)}${word(ports) ? ` ${word(ports)}` : ""}` : "";
    return kind === "list" ? `${verdict.value} ${a} -> ${b}${service}` : `${a} -> ${b}${service} ${verdict.value}`;
  };
  node.complain = (reason) => {
    for (const each of [...ends, proto, ports]) mark(each, "aria-invalid", reason ? "true" : null);
    say(said, reason);
  };
  const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, "→");
  const path = [ends[0], arrow, ends[1], proto, ports];
  const tools = h("span", { class: "tools" });
  node.append(number, ...(kind === "list" ? [verdict, ...path] : [...path, verdict]), tools, said);
  tint();
  return Object.assign(node, { tools });
}

function group(name, members) {
  const input = typed(t("group"), name, { placeholder: t("group_name") });
  const names = typed(t("group_members"), members.join(", "), { placeholder: "pc1, pc2" });
  const said = h("p", { class: "bad-text" });
  const tools = h("span", { class: "tools" });
  const node = h("div", { class: "line group", role: "group" }, input, h("span", { class: "arrow", "aria-hidden": "true" }, "="), names, tools, said);
  node.number = () => mark(node, "aria-label", `${t("group")} ${word(input)}`);
  node.read = () => [word(input), names.value.split(/[\s,]+/).filter(Boolean)];
  node.complain = (reason) => {
    complain(input, said, reason);
    mark(names, "aria-invalid", reason ? "true" : null);
  };
  return Object.assign(node, { tools });
}

// A list of such lines that can be added to, put in another order, and taken from.
function lines(title, about, make, fresh, changed) {
  const list = h("div", { class: "lines" });
  const renumber = () => {
    [...list.children].forEach((each, index) => each.number(index + 1));
    changed();
  };
  const move = (item, by) => {
    const other = by < 0 ? item.previousElementSibling : item.nextElementSibling;
    if (other === null) return;
    if (by < 0) other.before(item);
    else other.after(item);
    item.tools.children[by < 0 ? 0 : 1].focus(); // which it loses where it is moved
    renumber();
  };
  const add = (...what) => {
    const item = make(...what);
    if (make !== group) item.tools.append(small(UP, t("move_up"), () => move(item, -1)), small(DOWN, t("move_down"), () => move(item, 1)));
    item.tools.append(
      small(CROSS, t("remove"), () => {
        const next = item.nextElementSibling ?? item.previousElementSibling;
        item.remove();
        (next?.tools.lastElementChild ?? more).focus();
        renumber();
      }, "danger-text"));
    list.append(item);
    return item;
  };
  const more = h("button", { type: "button", class: "small quiet add", on: { click: () => {
    const item = add(...fresh);
    renumber();
    item.querySelector("input").focus();
  } } }, `+ ${title.add}`);
  const node = h("section", { class: "part", "aria-label": title.name }, h("h3", null, title.name), h("p", { class: "note" }, about), list, more);
  return Object.assign(node, { add, renumber, items: () => [...list.children] });
}

export class RuleEditor {
  // `ended(saved)` when it is over.
  constructor(app, { table, tag, dirty = false }, ended) {
    this.app = app;
    this.network = app.network;
    this.tag = tag;
    this.ended = ended;
    this.dirty = dirty;
    const changed = () => this.changed();
    this.usual = choice(t("else"), [["allow", t("allow")], ["deny", t("deny")]], table.default ?? "allow");
    this.list = lines({ name: t("rules_list"), add: t("add_rule") }, t("rules_order"), (text) => line("list", text), ["allow any -> any"], changed);
    this.tests = lines({ name: t("rules_tests"), add: t("add_test") }, t("tests_lead"), (text) => line("tests", text), ["any -> any allowed"], changed);
    this.groups = lines({ name: t("groups"), add: t("add_group") }, t("groups_lead"), group, ["", []], changed);
    for (const text of table.list ?? []) this.list.add(text);
    for (const text of table.tests ?? []) this.tests.add(text);
    for (const [name, members] of Object.entries(table.groups ?? {})) this.groups.add(name, members);
    this.said = h("p", { class: "good-text", role: "status" });
    this.problem = h("p", { class: "bad-text lines-of-text", role: "alert" });
    this.clash = h("div", { class: "row", hidden: true },
      h("button", { type: "button", on: { click: () => this.again() } }, t("take_theirs")));
    this.keep = h("input", { type: "checkbox" });
    // No form: Enter in a field would have the switch go by what is half written.
    this.apply = h("button", { type: "button", class: "primary", disabled: !dirty, on: { click: () => this.save() } },
      t("go_by_these"));
    this.names = h("datalist", { id: "rule-names" });
    const options = (id, words) => h("datalist", { id }, words.map((value) => h("option", { value })));
    this.node = h("div", { class: "editor", on: { input: changed } },
    this.names, options("rule-protocols", ["tcp", "udp", "icmp", "sctp"]),
    options("rule-types", ["22", "80,443", "8000-8010", "echo-request"]),
    this.list, h("label", { class: "else" }, t("else"), this.usual), this.groups, this.tests,
    h("div", { class: "bar" }, this.said, this.problem, this.clash,
      h("div", { class: "row end" }, h("label", { class: "check" }, this.keep, t("keep")),
        h("button", { type: "button", class: "quiet", on: { click: () => this.cancel() } }, t("cancel")), this.apply)));
    for (const part of [this.list, this.tests, this.groups]) {
      for (const [at, item] of part.items().entries()) item.number(at + 1);
    }
    this.update();
    this.check();
  }

  // Names that rules may have, as they come.
  update() {
    const known = [...(this.app.status?.ports ?? []).map((port) => port.name), ...(this.app.members ?? []).map((each) => each.name)];
    const groups = this.groups.items().map((each) => each.read()[0]);
    const names = [...new Set(["any", "internet", "switch", ...groups, ...known])].filter(Boolean);
    if (names.join() === this.known) return;
    this.known = names.join();
    this.names.replaceChildren(...names.map((value) => h("option", { value })));
  }

  // As the table [rules] of a file has it.
  table() {
    const groups = this.groups.items().map((each) => each.read());
    const table = {};
    if (this.usual.value !== "allow") table.default = this.usual.value;
    for (const key of ["list", "tests"]) {
      const texts = this[key].items().map((each) => each.read());
      if (texts.length) table[key] = texts;
    }
    if (groups.length) table.groups = Object.fromEntries(groups);
    return table;
  }

  changed() {
    this.dirty = true;
    this.apply.disabled = false;
    this.update();
    clearTimeout(this.due);
    this.due = setTimeout(() => this.check(), PAUSE);
  }

  // What these rules say to that, once they are right: {allowed, by}, or null while they are not.
  async ask(text) {
    const said = await api.post("v1/rules/check", { table: this.table(), ask: [text] });
    return said.verdicts[0];
  }

  async check() {
    const mine = (this.turn = (this.turn ?? 0) + 1);
    let failed = null;
    let said = null;
    try {
      said = await api.post("v1/rules/check", { table: this.table() });
    } catch (error) {
      failed = error;
    }
    if (mine !== this.turn) return;
    this.complain(failed);
    say(this.said, said ? t("rules_right", said) : "");
  }

  // What the switch has against them stands at the lines that it is about.
  complain(error) {
    for (const part of [this.list, this.tests, this.groups]) for (const each of part.items()) each.complain("");
    const seen = new Set();
    let twice = false;
    for (const each of this.groups.items()) {
      const [name] = each.read();
      if (seen.has(name)) each.complain(t("twice"));
      twice = twice || seen.has(name);
      seen.add(name);
    }
    this.twice = twice;
    if (error === null) {
      say(this.problem, "");
      return;
    }
    const left = error.status === 400 ? refusals(error, (text) => {
      const found = REFUSED.exec(text);
      if (found) {
        const item = this[found[1]].items()[Number(found[2]) - 1];
        item?.complain(wrong(found[3]));
        return item !== undefined;
      }
      const item = this.groups.items().find((each) => {
        const [name] = each.read();
        return text.startsWith(`rules.groups.${name}: `) || text.startsWith(`rules.groups: '${name}' `);
      });
      item?.complain(wrong(text.slice(text.indexOf(": ") + 2)));
      return item !== undefined;
    }) : error.status === 412 ? t("rules_clash") : parts("failed", { error: why(error) });
    say(this.problem, left || t("rules_wrong"));
  }

  async save() {
    clearTimeout(this.due);
    this.turn = (this.turn ?? 0) + 1;
    this.complain(null);
    if (this.twice) return;
    this.apply.disabled = true;
    try {
      await api.put("v1/rules", { table: this.table() }, { save: this.keep.checked || null }, this.tag);
      this.dirty = false;
      this.app.say(t(this.keep.checked ? "rules_kept" : "rules_live"));
      this.ended();
      return;
    } catch (error) {
      say(this.said, "");
      this.complain(error);
      this.clash.hidden = error.status !== 412;
      this.problem.scrollIntoView({ block: "nearest" });
    }
    this.apply.disabled = this.clash.hidden === false;
  }

  // The rules that somebody else has made meanwhile.
  again() {
    this.dirty = false;
    this.ended({ again: true });
  }

  async cancel() {
    if (this.dirty && !(await confirm(t("drop_ask"), t("drop_detail"), t("drop"), t("go_on")))) return;
    this.ended();
  }

  stop() {
    clearTimeout(this.due);
    this.turn = (this.turn ?? 0) + 1;
  }
}
