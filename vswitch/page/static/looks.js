// How the page looks: its theme and its language, and the buttons that change them.

import { h } from "./dom.js";
import { remember, remembered } from "./session.js";
import { LANGUAGES, language, t, useLanguage } from "./texts.js";

const system = matchMedia("(prefers-color-scheme: dark)");
let drawn = () => {}; // draws the page anew

// The button of the theme, which is another one when it was pressed, or the system has changed.
const theme = h("button", { type: "button", class: "quiet", on: { click: () => {
  remember("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  dress();
} } });

export function dress() {
  const chosen = remembered("theme");
  const dark = chosen ? chosen === "dark" : system.matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const known = remembered("language") ?? navigator.language.slice(0, 2);
  useLanguage(LANGUAGES.includes(known) ? known : "en");
  document.documentElement.lang = language() === "zh" ? "zh-Hans" : "en";
  document.querySelector(".skip").textContent = t("skip");
  theme.textContent = t(dark ? "to_light" : "to_dark");
}

// Called when all texts are other ones.
export function onLanguage(called) {
  drawn = called;
}

export function looks() {
  dress();
  return [
    h("button", { type: "button", class: "quiet", lang: language() === "zh" ? "en" : "zh-Hans",
      "aria-label": t("language_name"), on: { click: () => {
        remember("language", language() === "zh" ? "en" : "zh");
        drawn();
      } } }, t("language")),
    theme,
  ];
}

system.addEventListener("change", dress);
