// What has happened, as it happens.

import * as api from "./api.js";
import { h, keyed, mark, say } from "./dom.js";
import { clock } from "./numbers.js";
import { t } from "./texts.js";

const MOST = 300; // that are shown
const AGAIN = 2000; // ms until the stream is asked for again
const BAD = new Set(["fault", "listener-ended", "member-refused", "port-blocked", "lease-conflict", "mac-frozen"]);
const GOOD = new Set(["port-up", "member-up", "member-enrolled", "port-unblocked", "published"]);

let here = null;

export const events = {
  key: "events",

  draw(main, app) {
    const list = h("ol", { class: "events", "aria-live": "polite", "aria-relevant": "additions" });
    const none = h("p", { class: "empty" }, t("no_events"));
    const filter = h("input", { type: "search", "aria-label": t("filter"), placeholder: t("filter"), on: { input: show } });
    here = { list, none, filter, all: new Map(), end: new AbortController() };
    main.append(h("h1", null, t("events")),
      h("div", { class: "row" }, h("p", { class: "note" }, t("events_lead")), filter),
      h("div", { class: "card" }, list, none));
    follow(app, here);
  },

  leave() {
    here?.end.abort();
    here = null;
  },
};

async function follow(app, mine) {
  const { signal } = mine.end;
  const note = (event) => {
    mine.all.set(event.number, event);
    if (mine.all.size > MOST) mine.all.delete(mine.all.keys().next().value);
    mine.due ??= requestAnimationFrame(() => {
      mine.due = undefined;
      if (mine === here) show();
    });
  };
  while (!signal.aborted) {
    try {
      const since = [...mine.all.keys()].at(-1) ?? 0;
      await api.listen("v1/events", { since }, note, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status) app.fail(error);
    }
    await new Promise((done) => setTimeout(done, AGAIN));
  }
}

function details(event) {
  const facts = Object.entries(event).filter(([key]) => !["number", "at", "kind", "port", "suppressed"].includes(key));
  const text = facts.map(([key, value]) => `${key} ${value}`).join(", ");
  return event.suppressed ? `${text} (${t("suppressed", { count: event.suppressed })})` : text;
}

function show() {
  const word = here.filter.value.toLowerCase();
  const shown = [...here.all.values()].reverse()
    .filter((event) => `${event.kind} ${event.port} ${details(event)}`.toLowerCase().includes(word));
  here.none.hidden = shown.length > 0;
  keyed(here.list, shown, (event) => event.number,
    () => h("li", null, h("time"), h("span", { class: "kind" }), h("strong"), h("span", { class: "note" })),
    (node, event) => {
      const [time, kind, port, more] = node.children;
      mark(node, "class", BAD.has(event.kind) ? "bad" : GOOD.has(event.kind) ? "good" : "plain");
      say(time, clock(event.at));
      mark(time, "datetime", new Date(event.at * 1000).toISOString());
      say(kind, event.kind);
      say(port, event.port);
      say(more, details(event));
    });
}
