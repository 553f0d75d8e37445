// What the switch refuses, in the language of the page; and its lines, each where it belongs.

import { mark, say } from "./dom.js";
import { has, t } from "./texts.js";

// A word of the switch that has a text here is said by that; for any other it speaks for itself.
export function reason(error) {
  if (error.status === 0) return t("problem_no_answer");
  const key = `problem_${error.problem}`;
  return has(key) ? t(key, { ...error.about, error: error.message }) : error.message;
}

// The lines of an answer that refuses something, each put where it belongs by `place(line)`; those
// that it finds no place for, as one text.
export const refusals = (error, place) =>
  error.message.split("\n").filter((line) => line && !place(line)).join("\n");

// What is said of one thing that is typed.
export function complain(input, said, why) {
  mark(input, "aria-invalid", why ? "true" : null);
  say(said, why);
}
