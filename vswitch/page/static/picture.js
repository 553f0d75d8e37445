// The picture of the network: the switch in the middle, a card for each port and for each member that
// is away, cables between. A cable is as wide as its rate, and dots run along it, both ways.

import { h, keyed, mark, s, say } from "./dom.js";
import { duration, milliseconds, rate } from "./numbers.js";
import { pathOf } from "./path.js";
import { t } from "./texts.js";

const MOST = 60; // cards; the table of ports has all
const CARD = 66; // px, as in style.css
const GAP = 14;
const NARROW = 720; // px of the picture
const MOST_TOP = 200; // px: a switch with many ports is seen without scrolling

// 0 for nothing, 1 for 1 kbit/s, one more for each tenfold.
const weight = (bytes) => Math.max(0, Math.log10(Math.max(bytes, 1) * 8) - 2);

export class Picture {
  constructor() {
    this.cables = s("svg", { class: "cables", "aria-hidden": "true" });
    this.bus = s("path", { class: "bus" }); // where there is no room for a cable each
    this.title = h("strong");
    this.facts = h("span", { class: "note" });
    this.jacks = h("div", { class: "jacks", "aria-hidden": "true" });
    this.panel = h("div", { class: "panel" },
      h("span", { class: "hidden" }, t("switch")), this.title, this.facts, this.jacks);
    this.list = h("ul", { class: "hosts", "aria-label": t("ports") });
    this.more = h("a", { class: "more", href: "#ports", hidden: true });
    this.none = h("p", { class: "empty" }, t("no_ports"));
    this.node = h("div", { class: "picture" },
      s("svg", { class: "cables", "aria-hidden": "true" }, this.bus), this.cables, this.panel, this.list, this.none, this.more);
    this.flows = new Map(); // by key: {phase, rx, tx, into, out}
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.watch = new ResizeObserver(() => this.place());
  }

  run() {
    this.watch.observe(this.node);
    let last = performance.now();
    const step = (now) => {
      const passed = Math.min(0.1, (now - last) / 1000);
      last = now;
      for (const flow of this.flows.values()) {
        if (flow.rx) flow.into.style.strokeDashoffset = -(flow.a = (flow.a + passed * (20 + 16 * flow.rx)) % 18);
        if (flow.tx) flow.out.style.strokeDashoffset = (flow.b = (flow.b + passed * (20 + 16 * flow.tx)) % 18);
      }
      this.next = requestAnimationFrame(step);
    };
    if (!this.still) this.next = requestAnimationFrame(step);
  }

  stop() {
    cancelAnimationFrame(this.next);
    this.watch.disconnect();
  }

  show(app) {
    const { status, history } = app;
    const named = new Set(status.ports.map((port) => port.name));
    const away = (app.members ?? []).filter((each) => each.revoked === null && !named.has(each.name));
    const all = [
      ...status.ports.map((port) => ({ key: `p${port.port}`, name: port.name, port })),
      ...away.map((member) => ({ key: `m${member.name}`, name: member.name, member })),
    ];
    this.shown = all.slice(0, MOST);
    this.more.hidden = all.length <= MOST;
    this.none.hidden = all.length > 0;
    say(this.more, t("more_ports", { count: all.length - MOST }));
    say(this.title, status.network);
    say(this.facts, status.subnet);
    keyed(this.jacks, this.shown.filter((each) => each.port), (each) => each.key,
      () => h("i"), (node, { port }) => mark(node, "class", `${port.state} ${pathOf(port).kind}`));
    keyed(this.list, this.shown, (each) => each.key, make, (node, each) => update(node, each, history));
    keyed(this.cables, this.shown.filter((each) => each.port), (each) => each.key, cable,
      (node, { key, port }) => this.flow(node, key, port, history));
    for (const key of this.flows.keys()) {
      if (!this.shown.some((each) => each.key === key)) this.flows.delete(key);
    }
    const shape = this.shown.map((each) => each.key).join();
    if (shape !== this.shape) {
      this.shape = shape;
      this.place();
    }
  }

  flow(node, key, port, history) {
    const { rx, tx } = history.of(port).now;
    const [base, into, out] = node.children;
    const known = this.flows.get(key) ?? { a: 0, b: 9, into, out };
    this.flows.set(key, Object.assign(known, { rx: weight(rx), tx: weight(tx) }));
    mark(node, "class", `cable ${pathOf(port).kind} ${port.state}`);
    base.style.strokeWidth = 2 + 1.1 * Math.max(known.rx, known.tx);
    into.style.opacity = known.rx ? 1 : 0;
    out.style.opacity = known.tx ? 1 : 0;
  }

  // Where everything is; the cards have a fixed height, so that this needs no measuring.
  place() {
    if (!this.shown) return;
    const width = this.node.clientWidth;
    const narrow = width < NARROW;
    const columns = narrow ? 1 : 2;
    const card = narrow ? width - 44 : Math.min(340, Math.max(220, width * 0.3));
    const rows = Math.ceil(this.shown.length / columns);
    const panel = { width: narrow ? width : Math.min(300, width * 0.22),
      height: narrow ? 118 : Math.min(260, Math.max(118, rows * 30)) };
    const below = narrow ? panel.height + 22 : 0;
    const height = Math.max(below + rows * (CARD + GAP), panel.height + 20);
    this.node.style.height = `${height}px`;
    this.cables.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const left = (width - panel.width) / 2;
    const top = narrow ? 0 : Math.min(MOST_TOP, (height - panel.height) / 2);
    Object.assign(this.panel.style, { left: `${left}px`, top: `${top}px`,
      width: `${panel.width}px`, height: `${panel.height}px` });
    const cables = this.cables.known ?? new Map();
    const last = this.shown.findLastIndex((each) => each.port);
    this.bus.setAttribute("d", narrow && last >= 0
      ? `M20 ${panel.height}L20 ${below + last * (CARD + GAP) + CARD / 2}` : "");
    this.shown.forEach((each, index) => {
      const right = index % columns === 1;
      const row = Math.floor(index / columns);
      const inColumn = columns === 1 ? rows : right ? Math.floor(this.shown.length / 2) : rows;
      const free = height - below - inColumn * (CARD + GAP) + GAP;
      const y = below + row * (CARD + GAP) + (narrow ? 0 : free / 2);
      const x = narrow ? 44 : right ? width - card : 0;
      const node = this.list.known.get(each.key);
      Object.assign(node.style, { left: `${x}px`, top: `${y}px`, width: `${card}px` });
      const middle = y + CARD / 2;
      let path;
      if (narrow) {
        path = `M44 ${middle}L20 ${middle}`;
      } else {
        const slot = top + 22 + (panel.height - 44) * (inColumn === 1 ? 0.5 : row / (inColumn - 1));
        const [from, to] = right ? [width - card, left + panel.width] : [card, left];
        const bend = (to - from) / 2;
        path = `M${from} ${middle}C${from + bend} ${middle} ${to - bend} ${slot} ${to} ${slot}`;
      }
      for (const line of cables.get(each.key)?.children ?? []) line.setAttribute("d", path);
    });
  }
}

const bare = (address) => (address ?? "").split("/")[0];

function make({ key, name, port }) {
  return h("li", { class: "host" },
    h("a", { href: port ? `#ports/${encodeURIComponent(name)}` : "#members" },
      h("span", null, h("i", { class: "lamp", "aria-hidden": "true" }), h("span", { class: "name" }),
        h("span", { class: "trip" }), h("span", { class: "badge" })),
      h("span", null, h("span", { class: "address" }), h("span", { class: "rates" }))));
}

function update(node, { name, port, member }, history) {
  const [first, second] = node.firstElementChild.children;
  const [lamp, title, trip, badge] = first.children;
  const [address, rates] = second.children;
  say(title, name);
  mark(title, "title", name);
  if (!port) {
    mark(node, "class", "host away");
    mark(lamp, "class", "lamp off");
    mark(badge, "class", "badge");
    say(badge, t(member.disabled !== null ? "disabled" : "away_member"));
    say(address, bare(member.address));
    say(rates, member.last_seen ? t("ago", { age: duration(Date.now() / 1000 - member.last_seen) }) : "");
    return;
  }
  const path = pathOf(port);
  const { rx, tx } = history.of(port).now;
  mark(node, "class", `host ${path.kind} ${port.state}`);
  mark(lamp, "class", `lamp ${port.state}`);
  mark(badge, "class", `badge ${path.kind}`);
  say(badge, port.blocked ? t("blocked") : path.word);
  say(trip, port.rtt_ms === null ? "" : milliseconds(port.rtt_ms));
  say(address, bare(port.address) || port.lane || "");
  say(rates, `↑ ${rate(rx)}  ↓ ${rate(tx)}`);
}

const cable = () => s("g", { class: "cable" },
  s("path", { class: "base" }), s("path", { class: "flow into" }), s("path", { class: "flow out" }));
