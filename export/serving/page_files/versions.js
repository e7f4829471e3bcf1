// What is known of each version: signatures, card, and items by name.

import * as api from "./api.js";

const known = new Map();

// Returns what requests to a version look like.
//   signatures: inputs with their dtypes, by name.
//   integer: whether ids are integers.
//   profile: names of the inputs that tell of a person.
//   branching: of the tree; undefined where the card does not say.
export async function factsOf(model, version) {
  if (!known.has(version)) {
    const [signatures, card] = await Promise.all([
      api.signatures(model, version), api.card(model, version)]);
    known.set(version, {
      signatures, card, items: new Map(),
      integer: signatures.recommend.history !== "DT_STRING",
      profile: Object.keys(signatures.recommend)
        .filter((name) => name.startsWith("profile_")),
      branching: card.settings?.branching,
    });
  }
  return known.get(version);
}

// Returns an item of a version, its id alone where no more is known.
export function itemOf(version, id) {
  return known.get(version)?.items.get(id) ?? { id };
}

export function keepItem(version, item) {
  known.get(version)?.items.set(item.id, item);
}

// Asks a version for the names of items that are not known yet.
export async function learnNames(model, version, ids) {
  const facts = await factsOf(model, version), { items } = facts;
  const unknown = [...new Set(ids)].filter((id) => !items.has(id));
  if (!unknown.length || facts.nameless) return;
  try {
    for (const [id, item] of await api.namedItems(model, version, unknown)) {
      items.set(id, item);
    }
  } catch (error) {
    if (!api.isNameless(error)) throw error;
    facts.nameless = true;
  }
}

// Returns the categories of the items that were seen, and those above them.
export function categoriesOf(version) {
  const paths = new Set();
  for (const { category } of known.get(version)?.items.values() ?? []) {
    const parts = (category ?? "").split("|").filter(Boolean);
    parts.forEach((_, i) => paths.add(parts.slice(0, i + 1).join("|")));
  }
  return [...paths].sort();
}
