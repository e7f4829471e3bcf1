// Elements by their parts. Whatever comes from a model is set as text.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") made.addEventListener("click", value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children);
  return made;
}

export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const SHOWN = 300; // letters of a name; a line or two is seen anyway

export function short(text, most = SHOWN) {
  const letters = [...text.slice(0, 2 * most)];
  return letters.length > most || text.length > 2 * most
    ? `${letters.slice(0, most).join("")}…` : text;
}

// What an item is called: without a name, by the part of its category that
// says most in a word, the last but one.
function titleOf({ name, category, id }) {
  const [group] = category?.split("|").filter(Boolean).slice(-2) ?? [];
  return name ?? (group ? `${group}: ${id}` : id);
}

// Name and category of an item, whatever script they are in.
export function told(item) {
  const name = element("bdi", { class: "name" }, short(titleOf(item)));
  const parts = [name];
  const below = [];
  if (item.category) below.push(short(item.category.replaceAll("|", " › ")));
  if (item.name) below.push(item.id);
  if (below.length) {
    parts.push(element("bdi", { class: "category" }, below.join(" · ")));
  }
  return element("div", { class: "item" }, ...parts);
}

export function nameOf(item) {
  return short(titleOf(item), 60);
}
