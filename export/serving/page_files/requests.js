// What is asked of a version for the history and the filters in force.

import * as api from "./api.js";
import { writeIds } from "./json.js";
import { state } from "./state.js";

const TRACED = 100; // items of a request, as an export allows

function inputsOf({ integer, profile }, filtered) {
  const inputs = { history: `[${writeIds(state.had, integer)}]` };
  for (const name of profile) {
    inputs[name] = `[${JSON.stringify(state.profile[name] ?? "")}]`;
  }
  if (filtered) {
    const exclude = state.newOnly ? [...new Set(state.had)] : [];
    inputs.exclude = `[${writeIds(exclude, integer)}]`;
    inputs.allow_categories = `[${JSON.stringify(state.allow)}]`;
  }
  return inputs;
}

// Returns the call that recommends.
//   facts: of the version.
//   version: its number; null asks for the newest.
export function recommendCall(facts, version) {
  const filtered = state.newOnly || state.allow.length > 0;
  return api.predictCall(state.model, version,
    filtered ? "recommend_filtered" : "recommend", inputsOf(facts, filtered));
}

// Returns what a version recommends, and how many ms that took.
export async function recommend(facts, version) {
  const { outputs, ms } = await api.predict(recommendCall(facts, version));
  const found = outputs.item_ids[0]
    .map((id, i) => ({ id: String(id), score: outputs.scores[0][i] }))
    .filter(({ score }) => score > api.MISSING);
  return { version, found, ms };
}

// Returns the walk of a version and the items it was traced for; null where
// the version tells none.
export async function trace(facts, version, shown) {
  if (!facts.signatures.trace || !facts.branching) return null;
  const first = state.asked === null ? [] : [state.asked];
  const ids = [...new Set([...first, ...shown])].slice(0, TRACED);
  const { outputs } = await api.predict(
    api.predictCall(state.model, version, "trace", {
      ...inputsOf(facts, true), items: `[${writeIds(ids, facts.integer)}]`,
    }));
  return { outputs, ids };
}
