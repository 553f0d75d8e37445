// Elements of the page. Data becomes text by text nodes alone: names of members are hostile.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [kind, heard] of Object.entries(value)) node.addEventListener(kind, heard);
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return node;
}

export const h = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Writing the same again would end a selection, and would be read aloud.
// `said` is a text, or a list of texts and elements.
export function say(node, said) {
  const parts = [said ?? ""].flat();
  if (node.textContent !== parts.map((each) => each.textContent ?? each).join("")) node.replaceChildren(...parts);
}

export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Other content, in which the focus stays if it was there: at its button.
export function refill(node, ...children) {
  const focused = node.contains(document.activeElement);
  node.replaceChildren(...children);
  if (focused) node.querySelector("button")?.focus();
}

// Children of `parent` for `items`, each kept as long as its key is there, so that focus stays.
export function keyed(parent, items, keyOf, create, update) {
  const known = (parent.known ??= new Map());
  const left = new Set(known.keys());
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (!left.delete(key) && known.has(key)) continue; // the same key twice
    let node = known.get(key);
    if (node === undefined) known.set(key, (node = create(item)));
    update(node, item);
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const key of left) {
    known.get(key).remove();
    known.delete(key);
  }
}

export const icon = (...paths) => s("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" },
  paths.map((d) => s("path", { d })));

export const card = (title, ...children) =>
  h("section", { class: "card" }, h("h2", null, title), ...children);
