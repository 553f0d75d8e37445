// Questions that have to be answered before anything else is done.

import { h } from "./dom.js";
import { nameInput } from "./names.js";
import { t } from "./texts.js";

// Resolves, once it is closed, to what it was closed with.
export function ask(dialog) {
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((answer) => dialog.addEventListener("close", () => {
    dialog.remove();
    answer(dialog.returnValue);
  }));
}

// Before something is done that cannot be taken back.
export async function confirm(question, detail, yes, no = t("cancel")) {
  const dialog = h("dialog", { "aria-labelledby": "question", "aria-describedby": "detail" },
    h("form", { method: "dialog" },
      h("h2", { id: "question" }, question), h("p", { id: "detail" }, detail),
      h("div", { class: "row end" },
        h("button", { value: "no", class: "quiet", autofocus: true }, no),
        h("button", { value: "yes", class: "danger" }, yes))));
  return (await ask(dialog)) === "yes";
}

// A name, or null.
export async function askName(question, before) {
  const input = nameInput(before);
  const dialog = h("dialog", { "aria-labelledby": "question" },
    h("form", { on: { submit: (event) => {
      event.preventDefault();
      dialog.close("yes");
    } } },
      h("h2", { id: "question" }, question), h("label", null, t("name"), input),
      h("p", { class: "note" }, t("name_help")),
      h("div", { class: "row end" },
        h("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, t("cancel")),
        h("button", { class: "primary" }, t("save")))));
  return (await ask(dialog)) === "yes" ? input.value.trim() : null;
}
