// A service worker that fetches once at install; `calls` in its URL: it makes a known number of calls.
if (location.search.includes("calls")) for (let i = 0; i < 3; i++) void navigator.platform;
addEventListener("install", (event) => event.waitUntil(fetch("{{self}}/r/json?at=install&v={{v}}").then((r) => r.text())));
