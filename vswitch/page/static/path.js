// How a port is attached.

import { h, mark, say } from "./dom.js";
import { t } from "./texts.js";

// The name of its colour, and its word.
export function pathOf({ via }) {
  const kind = (via ?? "").split(":")[0];
  if (kind === "udp" || kind === "https") return { kind, word: kind.toUpperCase() };
  if (kind === "" || kind === "local") return { kind: "local", word: t("this_host") };
  return { kind: "foreign", word: kind };
}

// A cell with that, the lane if it has one, and where the other end is.
export function path(cell, { via, lane }) {
  if (!via && lane === undefined) {
    say(cell, "–"); // a member that is away
    mark(cell, "data-none", true);
    return;
  }
  mark(cell, "data-none", null);
  if (!cell.firstElementChild) {
    cell.replaceChildren(h("div", { class: "path" }, h("span"), h("span", { class: "note" }), h("span", { class: "note where" })));
  }
  const [badge, of, where] = cell.firstElementChild.children;
  const { kind, word } = pathOf({ via });
  mark(badge, "class", `badge ${kind}`);
  say(badge, word);
  say(of, lane ?? "");
  say(where, via ? via.slice(via.indexOf(":") + 1) : "");
}
