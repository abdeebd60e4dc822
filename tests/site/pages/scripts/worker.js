// Dedicated worker: one fetch of its own, one imported script, then a message.
importScripts("{{self}}/r/script.js?at=worker-import&v={{v}}");
fetch("{{self}}/r/json?at=worker&v={{v}}").then((r) => r.text()).then(() => postMessage("done"));
