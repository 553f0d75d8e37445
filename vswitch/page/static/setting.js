// A setting: its value as a file has it, and who says so.

import { h, say } from "./dom.js";
import { t } from "./texts.js";
import { badge } from "./unsaved.js";

// A value as in a configuration file: a number, true, text with or without quotes.
export function read(text) {
  const said = text.trim();
  try {
    return JSON.parse(said);
  } catch {
    return said;
  }
}

// Who says so: a table of the file, what it follows from, or nobody; and whether it is lost at the end.
export function source(cell, each) {
  if (!cell.firstChild) cell.append(h("span"), " ", badge());
  say(cell.firstChild, each.source || t("default_source"));
  cell.lastChild.hidden = each.said !== "live";
}
