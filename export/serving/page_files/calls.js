// A REST call as people paste it.

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function pythonLiteral(text) {
  // JSON that has no null and no booleans is a literal of Python too.
  return text.replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
}

// Returns the forms of a call, by name.
export function forms({ path, body }, origin) {
  const address = origin + path;
  return {
    curl: `curl -d ${quoted(body)} \\\n    ${quoted(address)}`,
    Python: [
      "import requests", "",
      `answer = requests.post(\n    ${JSON.stringify(address)},`,
      `    json=${pythonLiteral(body)},\n)`,
      'print(answer.json()["outputs"])',
    ].join("\n"),
    JSON: `POST ${path}\n\n${body}`,
  };
}
