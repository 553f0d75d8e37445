// What there is to know at a glance: figures, the picture, what needs a look.

import * as api from "./api.js";
import { card, h, keyed, s, say } from "./dom.js";
import { LENGTH } from "./history.js";
import { count, duration, milliseconds, rate } from "./numbers.js";
import { Picture } from "./picture.js";
import { USUAL, meaning } from "./reasons.js";
import { t } from "./texts.js";

const SLOW = 250; // ms: above this people notice it in a call
const MEMBERS_EVERY = 5; // status answers for each look at who else there is

const GRAVE = ["bad", "odd", "note"];

let here = null;

function figure(label) {
  const value = h("dd", { class: "figure" });
  const note = h("dd", { class: "note" });
  return { value, note, node: h("div", { class: "card tile" }, h("dt", null, label), value, note) };
}

function chart() {
  const [into, out] = [s("path", { class: "rx" }), s("path", { class: "tx" })];
  const node = s("svg", { class: "chart", viewBox: "0 0 300 100", preserveAspectRatio: "none",
    role: "img", "aria-label": t("last_90") }, into, out,
    s("line", { x1: 0, x2: 300, y1: 50, y2: 50, class: "axis" }));
  const shape = (values, most, sign) => {
    const points = values.map((value, index) =>
      `${(300 - (values.length - 1 - index) * 300 / (LENGTH - 1)).toFixed(1)} ${(50 - sign * 46 * value / most).toFixed(1)}`);
    return points.length ? `M${points[0].split(" ")[0]} 50L${points.join("L")}L300 50Z` : "";
  };
  node.draw = (track) => {
    const most = Math.max(1000, ...track.rx, ...track.tx);
    into.setAttribute("d", shape(track.rx, most, 1));
    out.setAttribute("d", shape(track.tx, most, -1));
  };
  return node;
}

// What is wrong, as sentences; each has a key that stays while it is the same thing.
function* concerns(app) {
  const { status, history } = app;
  for (const each of status.ended) {
    yield ["bad", each.reference, t("a_fault", { what: each.ended, reference: each.reference })];
  }
  for (const each of status.foreign) {
    if (each.ended) yield ["bad", `f${each.name}`, t("a_listener", { name: each.name, reference: each.ended })];
  }
  for (const each of status.published) {
    if (each.why && each.why !== "away") {
      yield ["odd", `p${each.listen}`, t("a_published", { listen: each.listen, why: t(`why_${each.why}`) })];
    }
  }
  for (const port of status.ports) {
    const about = { port: port.name };
    if (port.blocked) yield ["bad", `b${port.port}`, t("a_blocked", { ...about, why: port.blocked })];
    const losing = history.of(port).drops.slice(-5);
    const mean = losing.reduce((sum, each) => sum + each, 0) / Math.max(1, losing.length);
    if (mean >= 1) {
      const [reason] = Object.entries(port.drops).filter(([name]) => !USUAL.has(name))
        .sort((a, b) => b[1] - a[1])[0];
      yield ["odd", `d${port.port}`,
        t("a_dropping", { ...about, count: count(mean), reason, means: meaning(reason) })];
    }
    if (port.rtt_ms > SLOW) yield ["odd", `s${port.port}`, t("a_slow", { ...about, rtt: milliseconds(port.rtt_ms) })];
    if (port.impaired) yield ["odd", `i${port.port}`, t("a_impaired", { ...about, orders: port.impaired })];
    const offered = port.offered.filter((each) => !port.routes.includes(each));
    if (offered.length) {
      yield ["note", `o${port.port}`, t("a_offered", { name: port.name, networks: offered.join(", ") })];
    }
  }
}

export const overview = {
  key: "overview",

  draw(main, app) {
    const tiles = {
      online: figure(t("online")), into: figure(t("into")), out: figure(t("out_of")),
      dropped: figure(t("dropped")), uptime: figure(t("uptime")),
    };
    const picture = new Picture();
    const list = h("ul", { class: "concerns", "aria-live": "polite" });
    const well = h("p", { class: "well" }, t("all_well"));
    const traffic = chart();
    here = { tiles, picture, list, well, traffic, turns: 0 };
    main.append(
      h("h1", { class: "hidden" }, t("overview")),
      h("dl", { class: "tiles" }, Object.values(tiles).map((each) => each.node)),
      h("section", { class: "card wide" },
        h("div", { class: "row" }, h("h2", null, t("picture")), h("p", { class: "note" }, t("picture_lead"))),
        picture.node),
      h("div", { class: "halves" },
        card(t("attention"), list, well),
        card(t("last_90"), h("p", { class: "legend note" },
          h("span", { class: "rx" }, t("into")), h("span", { class: "tx" }, t("out_of"))), traffic)));
    picture.run();
  },

  update(app) {
    const { tiles, picture, list, well, traffic } = here;
    const { status, history } = app;
    if (here.turns++ % MEMBERS_EVERY === 0) {
      api.get("v1/members").then((said) => (app.members = said.members), app.fail);
    }
    // Members alone have a lane; one that bridges has no address.
    const connected = status.ports.filter((port) => port.state === "up" && port.lane_mode !== null).length;
    say(tiles.online.value, String(connected));
    say(tiles.online.note, t("of_members", { count: status.members }));
    say(tiles.into.value, rate(history.all.now.rx));
    say(tiles.into.note, t("in_total", { count: count(status.totals.rx_bytes ?? 0, "B") }));
    say(tiles.out.value, rate(history.all.now.tx));
    say(tiles.out.note, t("in_total", { count: count(status.totals.tx_bytes ?? 0, "B") }));
    say(tiles.dropped.value, count(history.all.now.drops));
    say(tiles.dropped.note, `${t("dropped_unit")} · ${t("in_total", { count: count(status.totals.dropped ?? 0) })}`);
    say(tiles.uptime.value, duration(status.uptime_s));
    say(tiles.uptime.note, `vswitch ${status.version}`);
    picture.show(app);
    traffic.draw(history.all);
    const found = [...concerns(app)].sort((a, b) => GRAVE.indexOf(a[0]) - GRAVE.indexOf(b[0]));
    keyed(list, found, (each) => each[1], () => h("li"), (node, [kind, , text]) => {
      node.className = kind;
      say(node, text);
    });
    well.hidden = found.length > 0;
  },

  leave() {
    here?.picture.stop();
    here = null;
  },
};
