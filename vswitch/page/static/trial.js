// What the switch would do with a frame now, and what rules that are being written would say to it.

import * as api from "./api.js";
import { card, h } from "./dom.js";
import { meaning } from "./reasons.js";
import { reason } from "./refusals.js";
import { t } from "./texts.js";

const PLAIN = /^(\S+) (\S+)(?: (icmp|tcp|udp))?(?: (\d+))?$/; // words of which rules can be asked

// What `trace` takes in short, as a question to rules.
function question(words) {
  const found = PLAIN.exec(words.trim());
  if (!found || words.includes("=")) return null;
  const [, from, to, protocol = "icmp", port = ""] = found;
  const what = protocol === "icmp" ? "echo-request" : port;
  return `${from} -> ${to} ${protocol} ${what}`.trim();
}

// The card; `editor()` is what edits the rules now, or null.
export function trial(app, editor) {
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
    const drafted = editor() === null ? [] : [draft(editor(), words.input.value)];
    try {
      show(answer, await api.post("v1/trace", { frame: words.input.value }));
    } catch (error) {
      answer.replaceChildren(h("p", { class: "bad-text" }, reason(error)));
    }
    answer.append(...(await Promise.all(drafted)));
  } } },
  h("div", { class: "row" }, from.node, to.node, h("label", null, t("protocol"), protocol), number.node),
  h("div", { class: "row grow" }, words.node, h("button", { class: "primary" }, t("ask"))), list);
  for (const each of [from.input, to.input, protocol, number.input]) each.addEventListener("input", spell);
  const node = card(t("try_it"), h("p", { class: "note" }, t("try_lead")), form, answer);
  // `required` is for who fills in the boxes; the words are what is asked.
  words.input.addEventListener("input", () => {
    from.input.required = to.input.required = false;
  });
  node.undraft = () => answer.querySelector(".drafted")?.remove();
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

// Of rules alone, since the switch does not go by these.
async function draft(editor, words) {
  const asked = question(words);
  let text = t("draft_unasked");
  let kind = "note";
  if (asked !== null) {
    try {
      const { allowed, by } = await editor.ask(asked);
      kind = allowed ? "verdict good" : "verdict bad";
      text = t(allowed ? "draft_allows" : "draft_denies", { by });
    } catch {
      text = t("draft_wrong");
    }
  }
  return h("div", { class: "drafted" }, h("p", { class: "note" }, t("draft_says")), h("p", { class: kind }, text));
}
