// The page as a whole: its sections, and the question each second how things are.
//
// A section is {key, role?, draw(main, app), update(app)?, leave()?}: `role` of those who have it,
// `draw` when it is chosen, `update` after each status, `leave` before another one.

import * as api from "./api.js";
import { h, mark, say } from "./dom.js";
import { History } from "./history.js";
import { login } from "./login.js";
import { logo } from "./logo.js";
import { dress, looks, onLanguage } from "./looks.js";
import { duration } from "./numbers.js";
import { reason } from "./refusals.js";
import { may, remember, remembered, session } from "./session.js";
import { parts, t } from "./texts.js";
import { capture } from "./capture.js";
import { drops } from "./drops.js";
import { events } from "./events.js";
import { macs } from "./macs.js";
import { members } from "./members.js";
import { overview } from "./overview.js";
import { ports } from "./ports.js";
import { forgetDraft, rules } from "./rules.js";
import { services } from "./services.js";
import { settings } from "./settings.js";
import { tokens } from "./tokens.js";

const SECTIONS = [overview, ports, members, macs, services, rules, events, drops, capture, settings, tokens];
const sections = () => SECTIONS.filter((each) => may(each.role ?? "read"));
const EVERY = 1000; // ms between two questions
const LONGEST = 30000; // ms between two while the switch does not answer

const app = {
  status: null, // the last one
  history: new History(),
  members: null,
  say: announce,
  fail: (error) => {
    if (error.status !== 401) announce(parts("failed", { error: reason(error) }), true);
  },
};
let section = null;
let frame = null; // what of the page is always there while logged in
let timer = 0;
let failures = 0;
let seen = 0; // when the last status came, ms
let turn = 0; // raised when answers to older questions are of no use any more

const root = document.getElementById("app");

function announce(text, bad = false) {
  const said = document.getElementById("said");
  say(said, text);
  document.querySelector(".toast")?.remove();
  const toast = h("div", { class: bad ? "toast bad" : "toast", "aria-hidden": "true" }, said.textContent);
  document.body.append(toast);
  setTimeout(() => toast.remove(), bad ? 8000 : 3500);
}

function showLogin(note = "") {
  stop();
  frame = null;
  closeDialogs();
  document.title = "vswitch";
  login(root, note, welcome);
}

function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

async function welcome(said) {
  api.useSession(said);
  Object.assign(session, said);
  let networks = [];
  try {
    networks = (await api.get("v1/networks")).networks.map((each) => each.name ?? each);
  } catch (error) {
    app.fail(error);
  }
  app.networks = networks;
  const known = remembered("network");
  app.network = networks.includes(known) ? known : networks[0] ?? null;
  api.useNetwork(app.network);
  forget();
  showFrame();
}

function forget() {
  app.status = null;
  app.members = null;
  app.history = new History();
  seen = 0;
}

// The frame

function showFrame() {
  section?.leave?.();
  section = null;
  const bar = looks();
  const nav = h("nav", { "aria-label": t("sections") },
    h("ul", null, sections().map((each) =>
      h("li", null, h("a", { href: `#${each.key}` }, t(each.key))))));
  const chooser = h("select", { "aria-label": t("network"), on: { change: (event) => {
    app.network = event.target.value;
    remember("network", app.network);
    api.useNetwork(app.network);
    forget();
    showFrame();
  } } }, app.networks.map((name) => h("option", { value: name }, name)));
  chooser.value = app.network ?? "";
  const banner = h("p", { class: "banner", role: "alert", hidden: true });
  const main = h("main", { id: "main", tabindex: "-1" });
  root.replaceChildren(
    h("header", null,
      h("a", { class: "brand", href: "#overview", "aria-label": "vswitch" }, logo(), h("span", null, "vswitch")),
      app.networks.length > 1 ? chooser : null,
      h("div", { class: "looks" },
        h("span", { class: "who" }, t("as_role", { name: session.name, role: t(session.role) })),
        bar, h("button", { type: "button", class: "quiet", on: { click: leave } }, t("logout")))),
    nav, banner, main);
  frame = { nav, banner, main };
  choose();
  tick();
}

async function leave() {
  try {
    await api.post("v1/logout");
  } catch (error) {
    app.fail(error);
  }
  forget();
  showLogin();
  forgetDraft();
}

function choose() {
  if (frame === null) return;
  const [key, ...rest] = location.hash.slice(1).split("/");
  const chosen = sections().find((each) => each.key === key) ?? overview;
  app.argument = rest.length ? decodeURIComponent(rest.join("/")) : null;
  for (const link of frame.nav.querySelectorAll("a")) {
    const here = link.getAttribute("href") === `#${chosen.key}`;
    mark(link, "aria-current", here && "page");
    if (here) link.parentElement.parentElement.scrollLeft = link.offsetLeft - 60;
  }
  closeDialogs();
  section?.leave?.();
  const moved = section !== null;
  section = chosen;
  document.title = `${t(chosen.key)} · vswitch`;
  frame.main.replaceChildren();
  frame.main.className = `in-${chosen.key}`;
  chosen.draw(frame.main, app);
  if (app.status !== null) chosen.update?.(app);
  if (moved) {
    scrollTo(0, 0);
    frame.main.focus({ preventScroll: true });
  }
}

// The question each second

function stop() {
  clearTimeout(timer);
  turn += 1;
  section?.leave?.();
  section = null;
}

async function tick() {
  clearTimeout(timer);
  if (frame === null || document.hidden) return;
  const mine = ++turn;
  try {
    const status = await api.get("v1/status");
    if (mine !== turn) return;
    if (failures) announce(t("back"));
    failures = 0;
    seen = Date.now();
    app.status = status;
    app.history.add(status);
    frame.banner.hidden = true;
    frame.main.classList.remove("old");
    section?.update?.(app);
  } catch (error) {
    if (mine !== turn || error.status === 401) return;
    if (!(error instanceof api.ApiError)) console.error(error);
    failures += 1;
    frame.main.classList.add("old");
    const seconds = Math.round(pause() / 1000);
    say(frame.banner, seen
      ? t("away", { seconds, age: duration((Date.now() - seen) / 1000) }) : t("away_new", { seconds }));
    frame.banner.hidden = false;
  }
  if (mine === turn) timer = setTimeout(tick, pause());
}

const pause = () => Math.min(EVERY * 2 ** failures, LONGEST);

api.onRefused(() => {
  if (frame === null) return;
  forget();
  showLogin(t("logged_out"));
  forgetDraft();
});
addEventListener("hashchange", choose);
document.addEventListener("visibilitychange", tick);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # is the section
  document.getElementById("main").focus();
});
onLanguage(() => {
  if (frame === null) showLogin();
  else showFrame();
  document.querySelector("header .looks button").focus();
});
app.may = may;

dress();
api.get("v1/session").then(welcome, () => showLogin());
