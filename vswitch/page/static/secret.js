import { h } from "./dom.js";
import { t } from "./texts.js";

// A secret that is shown once, or a command with it, and a button that copies it.
export function copied(app, text, label) {
  const code = h("code", { class: "string", tabindex: "0", role: "group", "aria-label": label }, text);
  const button = h("button", { type: "button", class: "primary", on: { click: async () => {
    try {
      await navigator.clipboard.writeText(text);
      app.say(t("copied"));
    } catch {
      getSelection().selectAllChildren(code); // the browser does not let us
    }
  } } }, t("copy"));
  return { code, button };
}
