// Forms that are sent to the switch. What it has against one stands in it, with what was typed.

import { h, say } from "./dom.js";
import { reason } from "./refusals.js";

// `act()` when it is sent, once at a time; what it throws is said below `children`.
export function form(attributes, act, ...children) {
  const said = h("p", { class: "bad-text", role: "alert" });
  const node = h("form", { ...attributes, on: { submit: async (event) => {
    event.preventDefault();
    const button = node.querySelector("button.primary");
    button.disabled = true;
    say(said, "");
    try {
      await act();
    } catch (error) {
      if (error.status !== 401) say(said, reason(error));
    }
    button.disabled = false;
  } } }, ...children, said);
  return node;
}
