// What a page can ask of a function to find out whether it is the browser's own. Each group is one question, asked of
// every target it fits; its answer is a text. A measurement of the same build without instruments gives the answers to
// compare with. Loaded first of all scripts: the footprint is what the document is like before any other ran.
(() => {
  const groups = [];
  /** group(name, ask): ask(target) or ask() returns a value or a promise of one. */
  const group = (name, ask, options = {}) => groups.push({ name, ask, ...options });
  const each = (name, ask, of = () => true) => group(name, null, { each: ask, of });

  const clean = (text) => String(text)
    .replace(/(?:blob:)?https?:\/\/[^\s)"']*?\/([\w.-]*)\?[^\s):"']*/g, "P/$1")
    .replace(/(?:blob:)?https?:\/\/[^\s):"']*:\d+[^\s):"']*/g, "P");
  const show = (value) => {
    if (typeof value === "string") return clean(value);
    if (typeof value === "function") return "fn " + clean(fnText.call(value));
    if (typeof value === "symbol") return value.toString();
    if (Array.isArray(value)) return "[" + value.map(show).join(", ") + "]";
    if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
      return "{" + Object.keys(value).map((key) => key + ": " + show(value[key])).join(", ") + "}";
    }
    return clean(value);
  };
  const error = (run) => {
    try {
      return "returned " + typeof run();
    } catch (thrown) {
      return thrown !== null && typeof thrown === "object" ? clean(thrown.name + ": " + thrown.message) : show(thrown);
    }
  };
  const caught = (run) => {
    try {
      run();
    } catch (thrown) {
      return thrown;
    }
    return undefined;
  };
  // Frames without columns and lines of this file: the order and the names are what tells.
  const frames = (stack) => clean(stack).split("\n").map((line) => line.trim()).filter(Boolean);
  const stackOf = (run) => {
    const thrown = caught(run);
    return thrown === undefined ? "nothing thrown" : frames(thrown.stack ?? "no stack");
  };
  const fnText = Function.prototype.toString;
  const make = (html) => {
    const box = document.createElement("div");
    box.style.display = "none";
    box.innerHTML = html;
    document.documentElement.append(box);
    return box.firstChild;
  };
  const frame = (attributes = {}) => {
    const made = document.createElement("iframe");
    made.style.display = "none";
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    document.documentElement.append(made);
    return made;
  };
  const sleep = (ms) => new Promise((end) => setTimeout(end, ms));

  // Functions that the default settings record: kind, owner, property, receiver.
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const offscreen = window.OfflineAudioContext ? new OfflineAudioContext(1, 64, 44100) : null;
  const peer = window.RTCPeerConnection ? new RTCPeerConnection() : null;
  const targets = [];
  const target = (kind, owner, property, self, args = []) => {
    const holder = typeof owner === "string" ? window[owner]?.prototype : owner;
    if (holder === undefined || holder === null) return;
    const descriptor = Object.getOwnPropertyDescriptor(holder, property);
    if (descriptor === undefined) return;
    const f = kind === "get" ? descriptor.get : kind === "set" ? descriptor.set : descriptor.value;
    if (typeof f !== "function") return;
    const name = (typeof owner === "string" ? owner : "window") + "." + property + " " + kind;
    targets.push({ name, kind, owner: holder, property, f, self, args, descriptor });
  };
  target("get", "Navigator", "userAgent", navigator);
  target("get", "Navigator", "hardwareConcurrency", navigator);
  target("get", "Navigator", "languages", navigator);
  target("get", "Navigator", "plugins", navigator);
  target("get", "Screen", "width", screen);
  target("get", "Screen", "colorDepth", screen);
  target("get", "Document", "cookie", document);
  target("set", "Document", "cookie", document, [""]);
  target("get", "Document", "referrer", document);
  target("call", "HTMLCanvasElement", "toDataURL", canvas);
  target("call", "HTMLCanvasElement", "getContext", canvas, ["2d"]);
  target("call", "CanvasRenderingContext2D", "measureText", context, ["x"]);
  target("set", "CanvasRenderingContext2D", "fillStyle", context, ["red"]);
  target("call", "CanvasRenderingContext2D", "getImageData", context, [0, 0, 1, 1]);
  target("call", "Storage", "getItem", localStorage, ["no such item"]);
  target("call", "Storage", "setItem", localStorage, ["k", "v"]);
  if (offscreen) target("call", "BaseAudioContext", "createOscillator", offscreen);
  if (peer) target("call", "RTCPeerConnection", "createDataChannel", peer, ["c"]);
  target("new", window, "RTCPeerConnection", window);
  target("new", window, "OfflineAudioContext", window, [1, 64, 44100]);
  target("call", "History", "replaceState", history, [null, ""]);
  target("call", Function.prototype, "toString", Function);
  const callable = (t) => t.kind !== "new";
  const withArguments = (t) => t.args.length > 0 && typeof t.args[0] === "string" && t.kind === "call";

  window.vectors = { group, each, groups, targets, callable, withArguments, show, error, caught, frames, stackOf, fnText, make, frame, sleep, clean };
})();
