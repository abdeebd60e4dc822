// Shared worker: one fetch, then a message to whoever connected.
onconnect = (event) => {
  fetch("{{self}}/r/json?at=shared&v={{v}}").then((r) => r.text()).then(() => event.ports[0].postMessage("done"));
};
