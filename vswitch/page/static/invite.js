// A new member: a join string, what its host runs with it, and the same as a picture.

import * as api from "./api.js";
import { card, h, keyed, say } from "./dom.js";
import { form } from "./forms.js";
import { nameInput } from "./names.js";
import { day } from "./numbers.js";
import { reason } from "./refusals.js";
import { copied } from "./secret.js";
import { parts, t } from "./texts.js";

const MINUTE = 60;
const TIMES = [["ten_minutes", 10 * MINUTE], ["an_hour", 60 * MINUTE], ["a_day", 1440 * MINUTE],
  ["a_week", 7 * 1440 * MINUTE], ["a_month", 30 * 1440 * MINUTE]];
const USUAL = 1440 * MINUTE;

// It is shown once, and forgotten with the section.
async function show(app, asked, place) {
  const { name } = asked;
  const made = await api.post("v1/invites", asked);
  const { code, button } = copied(app, `vswitch join ${made.string}`, t("join_with", { name }));
  const node = h("div", { class: "invitation" },
    h("div", null,
      h("p", null, t("join_with", { name })), code,
      h("p", { class: "note" }, t("good_until", { day: day(made.expires) })),
      h("div", { class: "row" }, button,
        h("button", { type: "button", class: "quiet", on: { click: () => place.replaceChildren() } }, t("done")))));
  place.replaceChildren(node);
  try {
    const { svg } = await api.post("v1/qr", { text: made.string });
    node.prepend(h("img", { src: `data:image/svg+xml,${encodeURIComponent(svg)}`, alt: t("qr_of", { name }), width: "180", height: "180" }));
  } catch (error) {
    code.after(h("p", { class: "note" }, parts("no_qr", { error: reason(error) }))); // the string is all that it takes
  }
}

// The card; `show(invites)` has it list those that can still be used.
export function inviteCard(app, changed) {
  const name = nameInput();
  const expires = h("select", null, TIMES.map(([key, seconds]) => h("option", { value: seconds, selected: seconds === USUAL }, t(key))));
  const places = h("input", { autocapitalize: "none", autocomplete: "off", spellcheck: "false", "aria-describedby": "places-help",
    placeholder: app.status?.publics.join(", ") || "switch.example.org" });
  const again = h("input", { type: "checkbox" });
  const place = h("div", { "aria-live": "polite" });
  const asking = form({}, async () => {
    await show(app, { name: name.value.trim(), expires: Number(expires.value), again: again.checked,
      public: places.value.split(/[\s,]+/).filter(Boolean) }, place);
    asking.reset();
    changed();
  },
  h("div", { class: "row" }, h("label", null, t("member_name"), name), h("label", null, t("good_for"), expires),
    h("button", { class: "primary" }, t("make_invite"))),
  h("details", null, h("summary", null, t("more_choices")),
    h("div", { class: "stack" },
      h("label", null, t("places"), places),
      h("p", { class: "note", id: "places-help" }, t("places_help")),
      h("label", { class: "check" }, again, t("again")))));
  const open = h("ul", { class: "chips", "aria-label": t("open_invites") });
  const some = h("div", { class: "row", hidden: true }, h("span", { class: "note" }, t("open_invites")), open);
  const end = (each) => api.remove(`v1/members/${api.part(each.name)}`).then(() => {
    app.say(t("invite_ended", each));
    changed();
  }, app.fail);
  const node = card(app.networks.length > 1 ? t("invite_to", { network: app.network }) : t("invite"),
    h("p", { class: "note" }, t("invite_lead")), asking, place, some);
  node.show = (invites) => {
    some.hidden = invites.length === 0;
    keyed(open, invites, (each) => `${each.name} ${each.created}`, (each) => h("li", null, h("span"),
      // To end one of somebody who is a member already would revoke him.
      each.again ? null : h("button", { type: "button", class: "small quiet", "aria-label": `${t("free")}: ${each.name}`,
        on: { click: () => end(each) } }, t("free"))),
    (item, each) => say(item.firstChild, t("invited_until", { name: each.name, day: day(each.expires) })));
  };
  return node;
}
