// A dialog with what is set most of a port; all else is in the section of settings.

import * as api from "./api.js";
import { ask } from "./dialogs.js";
import { h, mark, say } from "./dom.js";
import { complain, reason, refusals, wrong } from "./refusals.js";
import { read, source } from "./setting.js";
import { parts, t } from "./texts.js";

const PARTS = [
  ["part_reach", ["isolated", "trusted"]],
  ["part_vlan", ["vlan", "trunk", "native"]],
  ["part_rate", ["rate_in", "rate_out"]],
  ["part_storm", ["storm_broadcast", "storm_multicast", "storm_unknown", "loop_guard"]],
  ["part_guard", ["source_guard", "arp_check", "dhcp_guard", "ra_guard", "bpdu_guard"]],
  ["part_macs", ["mac_limit", "sticky"]],
];
const IDS = ["vlan", "trunk", "native"]; // of which there may be none; of the others, no limit

function field({ key, text, value }, facts) {
  const on = typeof value === "boolean";
  const none = ["off", "none"].includes(read(text)) ? read(text) : null; // empty, here
  const before = on ? value : none === null ? String(read(text)) : "";
  const input = on ? h("input", { type: "checkbox", role: "switch", class: "switch" })
    : h("input", { class: "short", value: before, autocomplete: "off", spellcheck: "false",
      placeholder: t(IDS.includes(key) ? "none" : "no_limit") });
  if (on) input.checked = value;
  const said = h("p", { class: "bad-text", id: `${key}-wrong` });
  const origin = h("span", { class: "note" });
  source(origin, facts);
  mark(input, "id", `set-${key}`);
  mark(input, "aria-describedby", `${key}-source ${key}-wrong`);
  mark(origin, "id", `${key}-source`);
  const node = h("div", { class: on ? "field on" : "field" },
    h("label", { for: `set-${key}` }, t(`set_${key}`)), input,
    h("p", { class: "origin" }, h("code", null, key), " · ", origin), said);
  return { key, node, complain: (reason) => complain(input, said, reason), change: () => {
    const now = on ? input.checked : input.value.trim();
    if (now === before) return undefined;
    return on ? now : now === "" ? none ?? (IDS.includes(key) ? "none" : "off") : read(now);
  } };
}

// Resolves when it is closed.
export async function portSettings(app, name) {
  const path = `v1/ports/${api.part(name)}`;
  let said;
  try {
    said = await api.get(path);
  } catch (error) {
    app.fail(error);
    return;
  }
  const known = new Map(said.in_force.map((each) => [each.key, each]));
  const fields = PARTS.flatMap(([, keys]) => keys).filter((key) => known.has(key))
    .map((key) => field(known.get(key), known.get(key)));
  mark(fields[0].node.querySelector("input"), "autofocus", true);
  const problem = h("p", { class: "bad-text lines-of-text", role: "alert" });
  const keep = h("input", { type: "checkbox" });
  const done = h("button", { class: "primary" }, t("save"));
  const place = (line) => {
    const found = fields.find(({ key }) => line.includes(`.${key} = `) || line.includes(`.${key}: `));
    found?.complain(wrong(line.slice(line.indexOf(": ") + 2)));
    return found !== undefined;
  };
  const dialog = h("dialog", { class: "wide", "aria-labelledby": "port-title" },
    h("form", { on: { submit: async (event) => {
      event.preventDefault();
      for (const each of fields) each.complain("");
      say(problem, "");
      const changes = Object.fromEntries(fields.map((each) => [each.key, each.change()]).filter(([, value]) => value !== undefined));
      if (Object.keys(changes).length === 0) {
        dialog.close();
        return;
      }
      done.disabled = true;
      try {
        await api.patch(path, changes, { save: keep.checked || null });
        app.say(t(keep.checked ? "port_kept" : "port_live", { name, keys: Object.keys(changes).join(", ") }));
        dialog.close();
      } catch (error) {
        say(problem, error.status === 400 ? refusals(error, place) : parts("failed", { error: reason(error) }));
        dialog.querySelector("[aria-invalid]")?.focus();
      }
      done.disabled = false;
    } } },
    h("div", { class: "row head" }, h("h2", { id: "port-title" }, t("port_settings", { name })),
      h("a", { href: `#settings/${api.part(name)}`, on: { click: () => dialog.close() } }, t("all_settings"))),
    said.blocked ? h("p", { class: "bad-text" }, t("a_blocked", { port: name, why: said.blocked })) : null,
    h("div", { class: "parts" }, PARTS.map(([part, keys]) => h("fieldset", null, h("legend", null, t(part)),
      fields.filter((each) => keys.includes(each.key)).map((each) => each.node)))),
    h("div", { class: "bar" }, problem,
      h("div", { class: "row end" }, app.may("admin") ? h("label", { class: "check" }, keep, t("keep")) : null,
        h("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, t("cancel")), done))));
  await ask(dialog);
}
