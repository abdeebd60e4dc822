// Replaces what an instrument could lean on. Every replacement swallows, lies or throws; returns how many it replaced.
window.sabotage = () => {
  const define = Object.defineProperty, names = Object.getOwnPropertyNames;
  let replaced = 0;
  const swallow = (object, name, value = () => undefined) => {
    try {
      define(object, name, { value, writable: true, configurable: true });
      replaced++;
    } catch { /* not configurable: nothing an instrument could lose either */ }
  };
  const targets = [
    [EventTarget.prototype, ["addEventListener", "removeEventListener", "dispatchEvent"]],
    [MessagePort.prototype, ["postMessage", "start", "close"]],
    [BroadcastChannel.prototype, ["postMessage"]],
    [Function.prototype, ["apply", "call", "bind"]],
    [Array.prototype, ["push", "pop", "shift", "splice", "slice", "concat", "join", "map", "forEach", "filter",
      "indexOf", "includes", Symbol.iterator]],
    [Promise.prototype, ["then", "catch", "finally"]],
    [Map.prototype, ["get", "set", "has"]], [WeakMap.prototype, ["get", "set", "has"]],
    [Set.prototype, ["add", "has"]], [String.prototype, ["split", "replace", "indexOf", "slice"]],
    [RegExp.prototype, ["exec", "test"]], [Date, ["now"]], [Math, ["random"]],
    [performance, ["now"]], [console, names(console)],
  ];
  for (let t = 0; t < targets.length; t++) {
    for (let n = 0; n < targets[t][1].length; n++) swallow(targets[t][0], targets[t][1][n]);
  }
  swallow(JSON, "stringify", () => { throw new Error("no"); });
  swallow(JSON, "parse", () => { throw new Error("no"); });
  const reflect = ["apply", "get", "set", "construct", "ownKeys", "getPrototypeOf", "defineProperty"];
  for (let n = 0; n < reflect.length; n++) swallow(Reflect, reflect[n], () => { throw new Error("no"); });
  const object = ["keys", "entries", "assign", "create", "freeze", "getPrototypeOf", "getOwnPropertyDescriptor",
    "getOwnPropertyNames", "defineProperty"];
  for (let n = 0; n < object.length; n++) swallow(Object, object[n], () => { throw new Error("no"); });
  const globals = ["CustomEvent", "Event", "MessageChannel", "MessageEvent", "Proxy", "WeakMap", "Map", "setTimeout",
    "queueMicrotask", "postMessage", "structuredClone", "requestAnimationFrame"];
  for (let n = 0; n < globals.length; n++) swallow(window, globals[n], function () { throw new Error("no"); });
  Error.stackTraceLimit = 0;
  Error.prepareStackTrace = () => { throw new Error("no"); };
  define(Object.prototype, "toJSON", { value: () => { throw new Error("no"); }, configurable: true });
  return replaced;
};
