// What was changed while the switch runs, and would be lost with it; a button that keeps it.

import * as api from "./api.js";
import { h, say } from "./dom.js";
import { t } from "./texts.js";

const MOST = 6; // keys that are named

export const badge = () => h("span", { class: "badge odd" }, t("not_saved"));

// `look()` asks again.
export function unsaved(app) {
  const text = h("p");
  const button = app.may("admin") ? h("button", { type: "button", class: "small", on: { click: async () => {
    button.disabled = true;
    try {
      await api.post("v1/config/save");
      app.say(t("all_saved"));
    } catch (error) {
      app.fail(error);
    }
    button.disabled = false;
    node.look();
    node.dispatchEvent(new Event("saved"));
  } } }, t("save_all")) : null;
  const node = h("div", { class: "strip", role: "status", hidden: true }, text, button);
  node.look = () => api.get("v1/config/diff").then((said) => {
    const keys = said.unsaved.map((each) => each.key);
    node.hidden = keys.length === 0;
    say(text, t("unsaved", { count: keys.length, keys: keys.slice(0, MOST).join(", ") + (keys.length > MOST ? " …" : "") }));
  }, () => (node.hidden = true)); // a switch without a configuration keeps nothing
  return node;
}
