// What the page remembers in this browser, and who is logged in.

const ORDER = ["read", "operate", "admin"];

export const session = { name: "", role: "read" };

export const may = (role) => ORDER.indexOf(session.role) >= ORDER.indexOf(role);

export function remembered(key) {
  try {
    return localStorage.getItem(`vswitch.${key}`);
  } catch {
    return null; // a browser that keeps nothing
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(`vswitch.${key}`, value);
  } catch {
    // It holds until the page is closed, then.
  }
}
