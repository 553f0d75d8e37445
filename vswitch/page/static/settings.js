// What is set, where it was said, and a way to change it.

import * as api from "./api.js";
import { card, h, say } from "./dom.js";
import { portSettings } from "./port_settings.js";
import { read, source } from "./setting.js";
import { table } from "./table.js";
import { has, language, t } from "./texts.js";
import { unsaved } from "./unsaved.js";

let here = null;

const pathOf = (name) => (name ? `v1/ports/${api.part(name)}` : "v1/switch");

// The switch speaks English.
const help = ({ key, help: said }) => (language() !== "en" && has(`set_${key}`) ? t(`set_${key}`) : said);

function value(app) {
  return (cell, each) => {
    if (cell.shown === each.text) return;
    cell.shown = each.text;
    const words = h("code", null, each.text);
    if (!app.may("operate")) {
      cell.replaceChildren(words);
      return;
    }
    const begin = () => {
      const input = h("input", { value: each.text, "aria-label": each.key, spellcheck: "false" });
      const form = h("form", { class: "row tight", on: { submit: (event) => {
        event.preventDefault();
        cell.shown = null;
        change(app, each.key, input.value);
      } } }, input, h("button", { class: "small primary" }, t("save")),
      h("button", { type: "button", class: "small quiet", on: { click: () => {
        cell.shown = null;
        here.found.show(here.all());
      } } }, t("cancel")));
      cell.replaceChildren(form);
      input.focus();
      input.select();
    };
    cell.replaceChildren(h("div", { class: "row tight" }, words,
      h("button", { type: "button", class: "small quiet", "aria-label": `${t("change")}: ${each.key}`, on: { click: begin } }, t("change"))));
  };
}

async function change(app, key, text) {
  try {
    await api.patch(pathOf(here.chosen.value), { [key]: read(text) }, { save: here.keep.checked || null });
    app.say(t("changed", { key, value: text }));
  } catch (error) {
    app.fail(error);
  }
  load(app);
}

export const settings = {
  key: "settings",

  draw(main, app) {
    const found = table(t("settings"), [
      { head: t("setting"), head_of_row: true, cell: (each) => each.key, sort: (each) => each.key },
      { head: t("value"), update: value(app) },
      { head: t("source"), update: source, sort: (each) => each.source ?? "" },
      { head: t("means"), long: true, cell: help },
    ], (each) => each.key, t("nothing"));
    const chosen = h("select", { "aria-label": t("settings_of"), on: { change: () => load(app) } });
    const keep = h("input", { type: "checkbox" });
    const set = h("input", { type: "checkbox", on: { change: () => here.found.show(here.all()) } });
    const about = h("dl", { class: "about" });
    const strip = unsaved(app);
    strip.addEventListener("saved", () => load(app));
    const usual = app.may("operate") ? h("button", { type: "button", hidden: true, on: { click: async () => {
      await portSettings(app, chosen.value);
      load(app);
      usual.focus();
    } } }, t("usual_settings")) : null;
    here = { found, chosen, keep, about, strip, usual, said: [], names: null };
    here.all = () => here.said.filter((each) => !set.checked || each.source);
    main.append(h("h1", null, t("settings")), strip,
      h("div", { class: "card" },
        h("div", { class: "row" }, h("label", null, t("settings_of"), chosen), usual,
          h("label", { class: "check" }, set, t("set_only")),
          app.may("operate") ? h("label", { class: "check" }, keep, t("keep")) : null,
          app.may("admin") ? h("button", { type: "button", class: "quiet", on: { click: () =>
            api.post("v1/config/reload").then(() => {
              app.say(t("reloaded"));
              load(app);
            }, app.fail) } }, t("reload")) : null),
        found.node),
      card(t("about_switch"), about));
    fill(app);
    if (app.argument !== null) chosen.value = app.argument;
    load(app);
  },

  update(app) {
    fill(app);
    const { status } = app;
    const facts = [["version", status.version], ["subnet", status.subnet], ["mtu", status.mtu],
      ["listens", [...status.listens, status.https && `https ${status.https}`].filter(Boolean).join(", ")],
      ["reached_at", status.publics.join(", ") || "–"], ["key", status.key ?? "–"]];
    if (here.about.children.length === 0) {
      here.about.append(...facts.map(([key]) => h("div", null, h("dt", null, t(key)), h("dd"))));
    }
    facts.forEach(([, text], index) => say(here.about.children[index].lastElementChild, String(text)));
  },

  leave() {
    here = null;
  },
};

function fill(app) {
  const names = (app.status?.ports ?? []).map((port) => port.name);
  if (app.argument !== null && !names.includes(app.argument)) names.push(app.argument);
  if (names.join("\n") === here.names) return;
  here.names = names.join("\n");
  const before = here.chosen.value;
  here.chosen.replaceChildren(h("option", { value: "" }, t("whole")),
    ...names.map((name) => h("option", { value: name }, `${t("port")} ${name}`)));
  here.chosen.value = before;
}

function load(app) {
  if (here === null) return;
  here.strip.look();
  if (here.usual) here.usual.hidden = here.chosen.value === "";
  api.get(pathOf(here.chosen.value)).then((said) => {
    if (here === null) return;
    here.said = said.in_force;
    here.found.show(here.all());
  }, app.fail);
}
