// A box in which one types and picks an item: the combobox of ARIA.

import { findItems, isNameless } from "./api.js";
import { element, told } from "./elements.js";

const WAIT_MS = 80; // after a letter, for the next one
const RETRY_MS = 1000; // while the items are still being indexed

// Calls `onPick` with the item that is picked.
export function makePicker({ input, list, status, where, onPick }) {
  let found = [], at = -1, timer = 0, asking = new AbortController();

  function show(items) {
    found = items;
    list.replaceChildren(...items.map((item, i) => element("li", {
      id: `${list.id}-${i}`, role: "option", "aria-selected": "false",
      click: () => pick(i),
    }, told(item))));
    list.hidden = !items.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    move(items.length ? 0 : -1);
  }

  function move(to) {
    at = to;
    [...list.children].forEach((option, i) => {
      option.setAttribute("aria-selected", String(i === at));
      if (i === at) option.scrollIntoView({ block: "nearest" });
    });
    if (at < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `${list.id}-${at}`);
  }

  function pick(i) {
    const item = found[i];
    if (!item) return;
    input.value = "";
    close();
    onPick(item);
    input.focus();
  }

  function close() {
    asking.abort();
    clearTimeout(timer);
    status.textContent = "";
    show([]);
  }

  async function look() {
    asking.abort();
    asking = new AbortController();
    const query = input.value.trim(), { signal } = asking;
    if (!query) return close();
    try {
      const items = await findItems(...where(), query, signal);
      if (signal.aborted) return;
      show(items);
      status.textContent = items.length
        ? `${items.length} found; arrow keys and Enter pick.`
        : "No item has all these words.";
    } catch (error) {
      if (error.name === "AbortError") return;
      status.textContent = error.message;
      show([]);
      if (error.status === 503) timer = setTimeout(look, RETRY_MS);
      if (isNameless(error)) {
        show([{ id: query }]);
        status.textContent = "This version keeps no names; Enter takes the id.";
      }
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    asking.abort();
    // Nothing of what was found before is picked now.
    found = [];
    move(-1);
    timer = setTimeout(look, WAIT_MS);
  });
  // Pressing on the list takes no focus, so it stays until a pick.
  list.addEventListener("mousedown", (event) => event.preventDefault());
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // letters that are still being made
    const last = found.length - 1;
    if (event.key === "ArrowDown" && last >= 0) move(at < last ? at + 1 : 0);
    else if (event.key === "ArrowUp" && last >= 0) move(at > 0 ? at - 1 : last);
    else if (event.key === "Enter" && at >= 0) pick(at);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
  input.addEventListener("blur", close);
}
