// Why an item is recommended, or where the search lost it.

import { MISSING } from "./api.js";
import { element, nameOf } from "./elements.js";

// Returns what became of an item on each step of a walk.
//   trace: outputs of the signature `trace`, of one user.
//   index: of the item among those traced.
export function stepsOf(trace, index) {
  return trace.levels[0].map((level, step) => {
    const place = trace.item_places[0][index][step];
    const rank = trace.item_ranks[0][index][step];
    return {
      level, place,
      node: trace.item_nodes[0][index][step],
      rank: rank > MISSING ? rank : null,
      scored: trace.scored[0][step],
      kept: trace.kept[0][step],
      last: trace.last_ranks[0][step],
      stays: place > 0 && place <= trace.kept[0][step],
    };
  });
}

// Says it in a sentence.
//   had: whether it is left out as had.
//   allowed: whether its category is; null where that is not known.
export function verdict(steps, { had, allowed }) {
  if (!steps[0].node) return "The model does not know it.";
  const lost = steps.find((step) => !step.stays);
  if (!lost) return "Recommended: its path stays within what is kept.";
  if (had) return "It was had, and what was had is left out.";
  if (allowed === false) return "It is in none of the categories that are allowed.";
  if (!lost.place) return "Nothing that may be entered leads to it.";
  const end = lost === steps.at(-1);
  return `Lost on level ${lost.level}` + (end ? ", the last" : "") +
    `: its ${end ? "leaf" : "node"} is number ${lost.place} of ` +
    `${lost.scored}, and ${lost.kept} ${end ? "are returned" : "go on"}. It ` +
    `lacks ${(lost.last - lost.rank).toFixed(3)} to the last of them.`;
}

// Returns the story as a heading and a table; the sentence is `verdict`.
export function tellWhy(item, steps) {
  const head = ["level", "node", "score", "place", "of", "kept"]
    .map((name) => element("th", { scope: "col" }, name));
  const rows = steps.map((step) => element("tr", {},
    ...[step.level, step.node, step.rank?.toFixed(3) ?? "–"]
      .map((value) => element("td", {}, String(value))),
    element("td", { class: step.stays ? "in" : "out" },
      step.place ? `${step.place} ${step.stays ? "✓" : "✗"}` : "–"),
    element("td", {}, String(step.scored)),
    element("td", {}, String(step.kept))));
  return [
    element("h3", {}, element("bdi", {}, nameOf(item))),
    element("table", {}, element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...rows)),
  ];
}
