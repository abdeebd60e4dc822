// A known number of calls in a dedicated or a shared worker, then a message.
for (let i = 0; i < 3; i++) void navigator.platform;
for (let i = 0; i < 2; i++) void navigator.hardwareConcurrency;
if (typeof SharedWorkerGlobalScope === "undefined") postMessage("done");
else onconnect = (event) => event.ports[0].postMessage("done");
