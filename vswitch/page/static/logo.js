// The sign of the program: a switch with three jacks.

import { s } from "./dom.js";

export const logo = () => s("svg", { viewBox: "0 0 32 20", class: "logo", "aria-hidden": "true" },
  s("rect", { x: 1, y: 3, width: 30, height: 14, rx: 5, class: "body" }),
  [6, 13.5, 21].map((x) => s("rect", { x, y: 7.5, width: 5, height: 5, rx: 1.2, class: "jack" })));
