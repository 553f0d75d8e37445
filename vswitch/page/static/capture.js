// Frames as they pass, each with what the switch does with it.

import * as api from "./api.js";
import { h, say } from "./dom.js";
import { count } from "./numbers.js";
import { knows, meaning } from "./reasons.js";
import { reason } from "./refusals.js";
import { t } from "./texts.js";

const MOST = 400; // rows; older ones go
const WAITING = 400; // frames between two turns of the screen; more are left out

let here = null;

// What becomes of it: where to, or the name of the drop; behind it, in parentheses, the steps.
function verdict({ verdict: word, reason }) {
  const dropped = word === "dropped";
  const [, what, steps] = /^(.*?)(?: \((.*)\))?$/s.exec(reason);
  return [h("strong", null, `${t(word)}: ${what}`),
    dropped && knows(what) ? h("span", null, ` ${meaning(what)}`) : null,
    steps ? h("span", { class: "note" }, ` ${steps}`) : null];
}

function row(frame) {
  const at = new Date(frame.time * 1000);
  const time = `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return h("tr", { class: frame.verdict === "dropped" && "bad" },
    h("td", { class: "time" }, time),
    h("td", null, frame.port),
    h("td", null, h("span", { class: `badge ${frame.direction === "in" ? "rx" : "tx"}` },
      t(frame.direction === "in" ? "frame_in" : "frame_out"))),
    h("td", { class: "summary" }, frame.summary),
    h("td", { class: "number" }, String(frame.size)),
    h("td", { class: "what" }, verdict(frame)));
}

export const capture = {
  key: "capture",

  draw(main, app) {
    main.append(h("h1", null, t("capture")), h("p", { class: "note" }, t("capture_lead")));
    if (!app.may("operate")) {
      main.append(h("p", { class: "card empty" }, t("need_operate")));
      return;
    }
    const port = h("select", { "aria-label": t("port") }, h("option", { value: "" }, t("any_port")));
    const filter = h("input", { "aria-label": t("filter"), placeholder: t("filter"), autocomplete: "off", spellcheck: "false",
      list: "filters", "aria-describedby": "filter-help" });
    const only = h("input", { type: "checkbox" });
    const start = h("button", { class: "primary" }, t("start"));
    const state = h("p", { class: "note", "aria-live": "polite" });
    const error = h("p", { class: "bad-text", role: "alert" });
    const body = h("tbody");
    const none = h("p", { class: "empty" }, t("no_frames"));
    const seconds = h("select", { "aria-label": t("time") },
      [10, 60, 600].map((each) => h("option", { value: each }, t("seconds", { count: each }))));
    const lead = h("span", { class: "note" });
    const tell = () => say(lead, t("download_lead", { seconds: seconds.value }));
    seconds.addEventListener("change", tell);
    tell();
    const form = h("form", { class: "row grow", on: { submit: (event) => {
      event.preventDefault();
      if (here.running) here.running.abort();
      else run(app, here);
    } } }, port, filter, h("label", { class: "check" }, only, t("only_drops")), start,
    h("button", { type: "button", class: "quiet", on: { click: () => {
      body.replaceChildren();
      none.hidden = false;
    } } }, t("clear")));
    here = { port, filter, only, start, state, error, body, none, running: null, waiting: [], count: 0, left: 0 };
    main.append(
      h("div", { class: "card" }, form,
        h("p", { class: "note", id: "filter-help" }, t("capture_filter_help")),
        h("datalist", { id: "filters" }, ["arp", "tcp port 22", "udp port 53", "icmp", "broadcast", "not ip6"]
          .map((value) => h("option", { value }))),
        error, state,
        h("div", { class: "scroll frames", tabindex: "0", role: "region", "aria-label": t("capture") },
          h("table", null, h("caption", { class: "hidden" }, t("capture")),
            h("thead", null, h("tr", null, ["time", "port", "direction", "summary", "bytes", "verdict"]
              .map((key) => h("th", { scope: "col", class: key === "bytes" && "number" }, t(key))))), body), none)),
      h("div", { class: "card row" }, seconds,
        h("button", { type: "button", on: { click: () => {
          const asked = { port: port.value, filter: filter.value, seconds: seconds.value };
          h("a", { href: api.address("v1/capture", asked), download: "vswitch.pcapng" }).click();
        } } }, t("download")), lead));
  },

  update(app) {
    if (here === null) return;
    const names = app.status.ports.map((port) => port.name);
    if (names.join("\n") === here.names) return;
    here.names = names.join("\n");
    const chosen = here.port.value;
    here.port.replaceChildren(h("option", { value: "" }, t("any_port")), ...names.map((name) => h("option", { value: name }, name)));
    here.port.value = names.includes(chosen) ? chosen : "";
  },

  leave() {
    here?.running?.abort();
    here = null;
  },
};

async function run(app, mine) {
  mine.running = new AbortController();
  Object.assign(mine, { count: 0, left: 0 });
  say(mine.start, t("stop"));
  say(mine.error, "");
  say(mine.state, t("running", { count: 0 }));
  try {
    const asked = { port: mine.port.value, filter: mine.filter.value, drops: mine.only.checked || null };
    await api.listen("v1/frames", asked, (frame) => {
      if (frame.verdict === undefined) return; // the counts at the end
      mine.count += 1;
      if (mine.waiting.length < WAITING) mine.waiting.push(frame);
      else mine.left += 1;
      mine.due ??= requestAnimationFrame(() => show(mine));
    }, mine.running.signal);
  } catch (error) {
    if (!mine.running.signal.aborted) say(mine.error, reason(error));
  }
  mine.running = null;
  say(mine.start, t("start"));
  say(mine.state, words(mine, "stopped"));
}

const words = (mine, key) => [t(key, { count: count(mine.count) }), mine.left ? t("skipped", { count: count(mine.left) }) : ""]
  .filter(Boolean).join(", ");

function show(mine) {
  mine.due = undefined;
  mine.body.prepend(...mine.waiting.reverse().map(row));
  mine.waiting = [];
  while (mine.body.children.length > MOST) mine.body.lastElementChild.remove();
  mine.none.hidden = mine.body.children.length > 0;
  if (mine.running) say(mine.state, words(mine, "running"));
}
