// Numbers, as people read them.

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

export function duration(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const many = Math.floor(left / length);
    left %= length;
    if (many || (unit === "s" && !parts.length)) parts.push(`${many}\u202f${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

export const clock = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString(document.documentElement.lang, { hour12: false });
export const day = (seconds) =>
  seconds === null || seconds === undefined ? "–"
    : new Date(seconds * 1000).toLocaleString(document.documentElement.lang,
      { dateStyle: "medium", timeStyle: "short", hour12: false });
