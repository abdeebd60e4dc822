// Tells the test what a script found out: result(value) once.
const report = async (value) => {
  const to = new URLSearchParams(location.search).get("to");
  await fetch(to, { method: "POST", body: JSON.stringify({ notes: [JSON.stringify(value)], done: ["thirdparty"] }) });
};
const run = (work) => work().catch((error) => report({ broken: String(error && error.stack || error) }));
const digest = async (bytes) => {
  const view = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(view, (b) => b.toString(16).padStart(2, "0")).join("");
};
