// Service worker: one fetch at install; answers /s/synthetic itself, everything else goes to the network.
addEventListener("install", (event) => {
  event.waitUntil(fetch("{{self}}/r/json?at=sw-install&v={{v}}").then(() => skipWaiting()));
});
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (event.request.url.includes("/s/synthetic")) event.respondWith(new Response("made here"));
  else if (event.request.url.includes("at=through")) event.respondWith(fetch(event.request.url + "&sw=1"));
});
