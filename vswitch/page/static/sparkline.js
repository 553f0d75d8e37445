// A line of values, the newest at the right.

import { s } from "./dom.js";

export function sparkline(kind) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const node = s("svg", { class: `spark ${kind}`, viewBox: "0 0 100 24",
    preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  node.draw = (values, length, floor) => {
    const most = Math.max(floor, ...values.map((each) => each ?? 0));
    const points = values.flatMap((value, index) => value === null ? [] :
      [`${(100 - (values.length - 1 - index) * 100 / (length - 1)).toFixed(1)} ${(22 - 20 * value / most).toFixed(1)}`]);
    const path = points.length ? `M${points.join("L")}` : "";
    line.setAttribute("d", path);
    area.setAttribute("d", path && `${path}L100 24L${points[0].split(" ")[0]} 24Z`);
  };
  return node;
}
