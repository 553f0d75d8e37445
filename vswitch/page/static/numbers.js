// Numbers and times, as people read them.

import { t } from "./texts.js";

const UNITS = ["", "k", "M", "G", "T", "P"];

export function count(number, unit = "") {
  let power = 0;
  while (number >= 999.5 && power < UNITS.length - 1) {
    number /= 1000;
    power += 1;
  }
  const digits = power === 0 ? Math.round(number) : number < 9.95 ? number.toFixed(1) : number.toFixed(0);
  return `${digits}${UNITS[power] || unit ? "\u202f" : ""}${UNITS[power]}${unit}`;
}

export const rate = (bytes) => count(bytes * 8, "bit/s");
export const size = (bytes) => count(bytes, "B");
export const milliseconds = (value) =>
  value === null || value === undefined ? "–" : `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)}\u202fms`;

export function duration(seconds, most = 2) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, length] of [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]]) {
    const many = Math.floor(left / length);
    left %= length;
    if (many || (unit === "seconds" && !parts.length)) parts.push(t(`in_${unit}`, { many }));
    else if (parts.length) break;
  }
  return parts.slice(0, most).join(" ");
}

// With its date, unless that is today.
export function clock(seconds) {
  const at = new Date(seconds * 1000);
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const date = at.toDateString() === new Date().toDateString() ? {} : { month: "short", day: "numeric" };
  return at.toLocaleString(document.documentElement.lang, { ...date, ...time });
}
export const day = (seconds) =>
  seconds === null || seconds === undefined ? "–"
    : new Date(seconds * 1000).toLocaleString(document.documentElement.lang,
      { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });
