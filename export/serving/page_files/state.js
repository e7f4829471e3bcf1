// What somebody asks for; the part of it that is kept in the address.

export const state = {
  model: "",
  versions: [], // that serve, the newest first
  version: null, beside: null, // null is the newest, and none
  had: [], newOnly: false, allow: [], profile: {},
  asked: null, // of which item it is told why
  more: false, // whether all recommendations are shown
};

// The version that answers.
export function mainVersion() {
  return state.version ?? state.versions[0];
}

export function remember() {
  const kept = new URLSearchParams(state.had.map((id) => ["had", id]));
  state.allow.forEach((name) => kept.append("allow", name));
  if (state.newOnly) kept.set("new", "1");
  history.replaceState(null, "", `#${kept}`);
}

export function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  state.had = kept.getAll("had");
  state.allow = kept.getAll("allow");
  state.newOnly = kept.has("new");
}
