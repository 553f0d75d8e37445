// What the last minutes were like: rates from counters, which the switch only ever adds to.

import { dropped } from "./reasons.js";

export const LENGTH = 90; // samples of a second each

function push(values, value) {
  values.push(value);
  if (values.length > LENGTH) values.shift();
}

class Track {
  constructor() {
    this.rx = [];
    this.tx = [];
    this.rtt = [];
    this.drops = [];
    this.before = null;
  }

  add(at, rx, tx, drops, rtt) {
    const last = this.before;
    // A port that came back counts from zero.
    if (last !== null && at > last.at && rx >= last.rx && tx >= last.tx) {
      const passed = at - last.at;
      push(this.rx, (rx - last.rx) / passed);
      push(this.tx, (tx - last.tx) / passed);
      push(this.drops, Math.max(0, drops - last.drops) / passed);
    }
    push(this.rtt, rtt ?? null);
    this.before = { at, rx, tx, drops };
  }

  get now() {
    return {
      rx: this.rx.at(-1) ?? 0, tx: this.tx.at(-1) ?? 0, drops: this.drops.at(-1) ?? 0,
    };
  }
}

export class History {
  constructor() {
    this.all = new Track();
    this.ports = new Map();
  }

  add(status) {
    const at = status.uptime_s;
    if (this.all.before !== null && at < this.all.before.at) {
      this.all = new Track(); // the switch has restarted
      this.ports.clear();
    }
    const { rx_bytes, tx_bytes } = status.totals;
    const lost = status.ports.reduce((sum, port) => sum + dropped(port.drops), 0);
    this.all.add(at, rx_bytes ?? 0, tx_bytes ?? 0, lost, null);
    const here = new Set();
    for (const port of status.ports) {
      here.add(port.port);
      if (!this.ports.has(port.port)) this.ports.set(port.port, new Track());
      this.ports.get(port.port)
        .add(at, port.rx_bytes, port.tx_bytes, dropped(port.drops), port.rtt_ms);
    }
    for (const number of [...this.ports.keys()]) if (!here.has(number)) this.ports.delete(number);
  }

  of(port) {
    return this.ports.get(port.port) ?? new Track();
  }
}
