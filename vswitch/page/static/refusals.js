// What the switch refuses, in the language of the page; and its lines, each where it belongs.
// Lists are for `say`: what the switch says itself is English, and marked as that on another page.

import { h, mark, say } from "./dom.js";
import { has, language, parts } from "./texts.js";

const english = (text) => (language() === "en" ? text : h("span", { lang: "en" }, text));

// A word of the switch that has a text here is said by that; for any other it speaks for itself.
export function reason(error) {
  const key = error.status === 0 ? "problem_no_answer" : `problem_${error.problem}`;
  const said = { ...error.about, error: english(error.message) };
  if (said.reason) said.reason = english(said.reason);
  return parts(has(key) ? key : "problem_failed", said);
}

// What is wrong with something that is typed, by a line of the switch.
export const wrong = (line) => parts("problem_wrong", { error: english(line) });

// The lines of an answer that refuses something, each put where it belongs by `place(line)`; those
// that it finds no place for together, or "".
export function refusals(error, place) {
  const left = error.message.split("\n").filter((line) => line && !place(line)).join("\n");
  return left && wrong(left);
}

// What is said of one thing that is typed.
export function complain(input, said, why) {
  mark(input, "aria-invalid", why ? "true" : null);
  say(said, why);
}
