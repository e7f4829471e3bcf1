// The REST calls of the page, which are those of any client.

import { parse } from "./json.js";

// Scores above are real; what is missing has the least of 32 bits.
export const MISSING = -3.4e38;

// What a call needs: where, and what is sent.
export function predictCall(model, version, signature, inputs) {
  const written = Object.entries(inputs)
    .map(([name, value]) => `"${name}": ${value}`).join(", ");
  return {
    path: `${pathOf(model, version)}:predict`,
    body: `{"signature_name": "${signature}", "inputs": {${written}}}`,
  };
}

function pathOf(model, version) {
  const path = `/v1/models/${encodeURIComponent(model)}`;
  return version === null ? path : `${path}/versions/${version}`;
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer; is it still running?");
  }
  const text = await answer.text();
  let value;
  try {
    value = parse(text);
  } catch {
    throw new Refused(answer.status, `Not JSON: ${text.slice(0, 200)}`);
  }
  if (!answer.ok) throw new Refused(answer.status, value.error ?? text);
  return value;
}

export function about() {
  return ask("/page/about.json");
}

// Returns the numbers of the versions that serve, the newest first; they are
// strings, since they have up to 19 digits.
export async function versions(model) {
  const { model_version_status: all } = await ask(pathOf(model, null));
  return all.filter((x) => x.state === "AVAILABLE")
    .map((x) => String(x.version))
    .sort((a, b) => (BigInt(a) < BigInt(b) ? 1 : -1));
}

// Returns a version's signatures: their inputs, by name, with their dtypes.
export async function signatures(model, version) {
  const { metadata } = await ask(`${pathOf(model, version)}/metadata`);
  const inner = metadata.signature_def.signature_def ?? metadata.signature_def;
  return Object.fromEntries(Object.entries(inner).map(([name, definition]) => [
    name,
    Object.fromEntries(Object.entries(definition.inputs)
      .map(([input, { dtype }]) => [input, dtype])),
  ]));
}

// Returns the model card; an empty one where there is none.
export async function card(model, version) {
  try {
    return await ask(`${pathOf(model, version)}/card`);
  } catch (error) {
    if (error.status !== 404) throw error;
    return {};
  }
}

export async function findItems(model, version, query, signal) {
  const words = new URLSearchParams({ query, count: 12 });
  return (await ask(`${pathOf(model, version)}/items?${words}`, { signal }))
    .items.map(asItem);
}

// Whether an answer says that a version has no names to look for.
export function isNameless(error) {
  return error.status === 404 && error.message.includes("keeps no items");
}

const LONGEST = 8000; // letters of an address, half of what is taken

// Returns those items of some ids that a version knows, by id.
export async function namedItems(model, version, ids) {
  const path = `${pathOf(model, version)}/items?`, items = new Map();
  for (let begin = 0, end; begin < ids.length; begin = end) {
    const wanted = new URLSearchParams([["id", ids[begin]]]);
    for (end = begin + 1; end < ids.length; end += 1) {
      wanted.append("id", ids[end]);
      if (wanted.toString().length > LONGEST) {
        wanted.delete("id", ids[end]);
        break;
      }
    }
    for (const found of (await ask(path + wanted)).items) {
      items.set(String(found.id), asItem(found));
    }
  }
  return items;
}

function asItem(found) {
  return { ...found, id: String(found.id) };
}

// Asks a signature; returns its outputs, and how many ms that took.
export async function predict({ path, body }) {
  const began = performance.now();
  const { outputs } = await ask(path, { method: "POST", body });
  return { outputs, ms: performance.now() - began };
}
