// The log-in: a token becomes a session.

import * as api from "./api.js";
import { h, say } from "./dom.js";
import { logo } from "./logo.js";
import { looks } from "./looks.js";
import { reason } from "./refusals.js";
import { parts, t } from "./texts.js";

// In `place`; `entered(session)` once somebody is known.
export function login(place, note, entered) {
  const bar = looks();
  const said = h("p", { class: "bad-text", role: "alert" }, note);
  const token = h("input", { id: "token", type: "password", autocomplete: "current-password",
    required: true, spellcheck: "false" });
  const button = h("button", { class: "primary" }, t("login"));
  const form = h("form", { class: "card", on: { submit: enter } },
    h("label", { for: "token" }, t("token")), token, button, said,
    h("p", { class: "note" }, t("token_help"), " ",
      h("code", null, "vswitch token create NAME --role admin")));
  async function enter(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      entered(await api.post("v1/login", { token: token.value.trim() }));
    } catch (error) {
      if (error.status === 401) say(said, t("wrong_token"));
      else if (error.status === 429) say(said, t("slowed", { seconds: Math.max(1, error.wait) }));
      else say(said, parts("failed", { error: reason(error) }));
      button.disabled = false;
      token.select();
    }
  }
  place.replaceChildren(
    h("header", { class: "bare" }, h("div", { class: "looks" }, bar)),
    h("main", { id: "main", class: "login", tabindex: "-1" },
      logo(), h("h1", null, t("login_title")), h("p", { class: "lead" }, t("login_lead")), form));
  token.focus();
}
