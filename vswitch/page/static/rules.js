// Who may open what to whom, and what the switch would do with a frame.

import * as api from "./api.js";
import { card, count, h, say, table } from "./dom.js";
import { meaning } from "./reasons.js";
import { t } from "./texts.js";

const EVERY = 3; // status answers for each look at the rules

let here = null;

function tryIt(app) {
  const names = () => (app.status?.ports ?? []).map((port) => h("option", { value: port.name }, port.name));
  const list = h("datalist", { id: "port-names" }, names());
  const field = (word, attributes) => {
    const input = h("input", attributes);
    return { input, node: h("label", null, word, input) };
  };
  const from = field(t("from"), { list: "port-names", required: true, autocomplete: "off" });
  const to = field(t("to"), { list: "port-names", required: true, autocomplete: "off" });
  const protocol = h("select", null, ["icmp", "tcp", "udp", "arp"].map((each) => h("option", null, each)));
  const number = field(t("to_port"), { inputmode: "numeric", pattern: "[0-9]*", maxlength: "5" });
  const words = field(t("frame_words"), { autocomplete: "off", spellcheck: "false", placeholder: t("frame_words_help") });
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const spell = () => {
    const port = ["tcp", "udp"].includes(protocol.value) ? number.input.value.trim() : "";
    words.input.value = [from.input.value.trim(), to.input.value.trim(), protocol.value, port].filter(Boolean).join(" ");
  };
  const form = h("form", { on: { submit: async (event) => {
    event.preventDefault();
    try {
      show(answer, await api.post("v1/trace", { frame: words.input.value }));
    } catch (error) {
      answer.replaceChildren(h("p", { class: "bad-text" }, error.message));
    }
  } } },
  h("div", { class: "row" }, from.node, to.node, h("label", null, t("protocol"), protocol), number.node),
  h("div", { class: "row grow" }, words.node, h("button", { class: "primary" }, t("ask"))), list);
  for (const each of [from.input, to.input, protocol, number.input]) each.addEventListener("input", spell);
  const node = card(t("try_it"), h("p", { class: "note" }, t("try_lead")), form, answer);
  // `required` is for who fills in the boxes; the words are what is asked.
  words.input.addEventListener("input", () => {
    from.input.required = to.input.required = false;
  });
  node.names = () => {
    if (list.children.length !== app.status.ports.length) list.replaceChildren(...names());
  };
  return node;
}

function show(place, said) {
  const ports = said.egress.map((each) => each.name).join(", ");
  place.replaceChildren(
    h("p", { class: ports ? "verdict good" : "verdict bad" },
      ports ? t("goes_to", { ports }) : t("is_dropped", { reason: said.reason })),
    ...(said.reason ? [h("p", null, meaning(said.reason))] : []),
    h("p", { class: "note" }, `${said.name}: ${said.frame}`),
    h("ol", { class: "steps" }, said.steps.map((step) => h("li", null, step))));
}

export const rules = {
  key: "rules",

  draw(main, app) {
    const found = table(t("rules"), [
      { head: "#", number: true, cell: (each) => each.number },
      { head: t("rule"), head_of_row: true, update: (cell, each) => {
        if (!cell.firstChild) cell.append(h("code"));
        say(cell.firstChild, each.rule);
      } },
      { head: t("flows"), number: true, cell: (each) => count(each.allowed), sort: (each) => each.allowed },
      { head: t("denied"), number: true, cell: (each) => count(each.denied), sort: (each) => each.denied },
    ], (each) => each.number, t("no_rules"));
    const note = h("p", { class: "note" });
    const box = tryIt(app);
    here = { found, note, box, turns: 0 };
    main.append(h("h1", null, t("rules")), box, card(t("rules"), note, found.node));
  },

  update(app) {
    here.box.names();
    if (here.turns++ % EVERY !== 0) return;
    api.get("v1/rules").then((said) => {
      if (here === null) return;
      here.found.show(said.rules.map((each, index) => ({ ...each, number: index + 1 })));
      say(here.note, [t(`else_${said.default}`), t("rules_state", { tests: said.tests.length, flows: said.flows }),
        said.unknown.length ? t("unknown_names", { names: said.unknown.join(", ") }) : ""].join(" "));
    }, app.fail);
  },

  leave() {
    here = null;
  },
};
