// Other realms, what the document is like, and the times things take.
(() => {
  const { group, show, error, fnText, frame, sleep, caught, clean } = vectors;
  // A realm whose natives are the browser's own gives away those of this one, and answers unrecorded.
  const look = (view) => {
    if (!view) return "no window";
    const agent = Object.getOwnPropertyDescriptor(view.Navigator.prototype, "userAgent").get;
    const mine = Object.getOwnPropertyDescriptor(Navigator.prototype, "userAgent").get;
    const text = view.Function.prototype.toString;
    // The keys before the name: Firefox makes keys as they are asked for, which is a question of its own below.
    const keys = Reflect.ownKeys(agent);
    return [
      fnText.call(agent), text.call(agent), text.call(mine), text.call(fnText), fnText.call(text), keys, agent.name,
      error(() => agent.call({})), error(() => agent.call(navigator)),
    ];
  };
  // The keys of functions whose names were read before, at a place that has read many: a browser may know by then how to
  // answer without making the key.
  group("realm.own_keys_order", () => {
    const nameOf = (f) => f.name;
    const orders = new Set();
    for (let i = 0; i < 30; i++) {
      const made = frame();
      const agent = Object.getOwnPropertyDescriptor(made.contentWindow.Navigator.prototype, "userAgent").get;
      const method = made.contentWindow.Storage.prototype.getItem;
      for (const f of [agent, method]) orders.add(nameOf(f) + " " + Reflect.ownKeys(f));
      made.remove();
    }
    return [...orders];
  });
  for (const [name, open] of realmKinds) {
    group("realm." + name, async () => {
      const opened = open();
      const at = typeof opened === "function" ? opened : () => opened.contentWindow;
      const first = error(() => look(at())) + show(caught(() => look(at())) ? "" : look(at()));
      await sleep(30);
      const later = caught(() => look(at())) ? "gone" : look(at());
      if (typeof opened !== "function") opened.remove();
      return [first, later];
    });
  }
  group("realm.worker", () => new Promise((end) => {
    const source = "const g = Object.getOwnPropertyDescriptor(WorkerNavigator.prototype, 'userAgent').get;" +
      "const said = []; try { g.call({}) } catch (e) { said.push(e.message, e.stack.split('\\n').length) }" +
      "postMessage([Function.prototype.toString.call(g), g.name, Reflect.ownKeys(g).map(String), Object.getOwnPropertyNames(self).join(' '), ...said])";
    const worker = new Worker(URL.createObjectURL(new Blob([source])));
    worker.onmessage = ({ data }) => end(data);
    worker.onerror = (event) => end("error " + event.message);
  }));

  group("document.first_look", () => show(vectors.first));
  group("document.performance", () => performance.getEntries().map((entry) => clean(entry.name + " " + entry.entryType + " " + (entry.initiatorType ?? ""))).filter((name) => !/paint|favicon|truth|visibility|long-animation|longtask|iframe/.test(name)).sort());
  const names = (view) => Reflect.ownKeys(view).map(String).filter((key) => !/^\d+$/.test(key));
  group("document.globals", () => names(window).sort().join(" "));
  group("document.globals_of_frame", () => { const made = frame(); const keys = Reflect.ownKeys(made.contentWindow).map(String).join(" "); made.remove(); return keys; });
  group("document.chrome_keys", () => [window.chrome, window.browser].map((api) => api && Reflect.ownKeys(api).map(String)));
  group("document.navigator_own", () => Reflect.ownKeys(navigator).map(String));
  group("document.document_own", () => Reflect.ownKeys(document).map(String));
  group("document.attributes", () => [document.documentElement, document.head, document.body].map((e) => e && e.getAttributeNames()));
  group("document.location_functions", () => Reflect.ownKeys(location.reload).map(String));
  group("document.error_own", () => [Reflect.ownKeys(Error).map(String), "prepareStackTrace" in Error, typeof Error.stackTraceLimit]);
  group("document.event", () => show(window.event));
  group("document.timer_ids", () => { const a = setTimeout(() => {}); const b = setTimeout(() => {}); return b - a; });
  group("document.webdriver", () => show(navigator.webdriver));
  group("document.mutations", async () => {
    const seen = [];
    const observer = new MutationObserver((list) => seen.push(...list.map((m) => m.type + " " + m.target.nodeName)));
    observer.observe(document, { subtree: true, childList: true, attributes: true });
    void navigator.userAgent;
    localStorage.getItem("x");
    await sleep(50);
    observer.disconnect();
    return seen;
  });
  group("document.setter_traps", () => {
    const hits = [];
    const names = ["get", "set", "value", "detail", "bubbles", "cancelable", "composed", "relatedTarget", "ports", "transfer", "capture", "once", "signal", "passive", "stack", "configurable", "enumerable", "writable", "0", "1", "view"];
    for (const name of names) Object.defineProperty(Object.prototype, name, { configurable: true, get() { hits.push("get " + name); return undefined; }, set() { hits.push("set " + name); } });
    try {
      void navigator.userAgent;
      localStorage.getItem("x");
    } finally {
      for (const name of names) delete Object.prototype[name];
    }
    return hits;
  });
  group("document.index_traps", () => {
    const hits = [];
    for (const name of ["0", "1", "2"]) Object.defineProperty(Array.prototype, name, { configurable: true, get() { return undefined; }, set(value) { hits.push(name); Object.defineProperty(this, name, { configurable: true, enumerable: true, writable: true, value }); } });
    try {
      for (let i = 0; i < 2000; i++) void navigator.userAgent;
      localStorage.getItem("x");
    } finally {
      for (const name of ["0", "1", "2"]) delete Array.prototype[name];
    }
    return hits.length;
  });
  group("document.replaced_methods", async () => {
    const hits = [];
    const kept = [];
    for (const [name, object] of Object.entries({ Event: Event.prototype, EventTarget: EventTarget.prototype, CustomEvent: CustomEvent.prototype, MessagePort: MessagePort.prototype, Array: Array.prototype, String: String.prototype, Map: Map.prototype, WeakMap: WeakMap.prototype, JSON, Reflect, Promise: Promise.prototype, Function: Function.prototype, Date, Performance: Performance.prototype })) {
      for (const key of Object.getOwnPropertyNames(object)) {
        const d = Object.getOwnPropertyDescriptor(object, key);
        if (!d.configurable || typeof d.value !== "function" || key === "constructor") continue;
        kept.push([object, key, d]);
      }
    }
    let armed = false;
    for (const [object, key, d] of kept) {
      const native = d.value;
      const apply = Reflect.apply;
      Object.defineProperty(object, key, { ...d, value: function (...args) { if (armed) { armed = false; hits[hits.length] = key; armed = true; } return apply(native, this, args); } });
    }
    armed = true;
    for (let i = 0; i < 1500; i++) navigator.userAgent;
    localStorage.getItem("x");
    armed = false;
    for (const [object, key, d] of kept) Object.defineProperty(object, key, d);
    return hits;
  });
  group("document.open", async () => {
    const made = frame();
    const view = made.contentWindow;
    view.document.open();
    view.document.write("<p>x");
    view.document.close();
    const told = look(view);
    made.remove();
    return told;
  });
  group("document.console", () => error(() => { void navigator.userAgent; }));

  group("document.scripts", () => [...document.scripts].map((script) => clean(script.src)));
  group("document.popup", async () => {
    const opened = window.open("about:blank");
    if (!opened) return "blocked";
    const told = look(opened);
    opened.close();
    return told;
  });

  // Times decide nothing: machines are busy. They are told for the table.
  const time = (run) => {
    let best = Infinity;
    for (let round = 0; round < 7; round++) {
      const start = performance.now();
      for (let i = 0; i < 3000; i++) run();
      best = Math.min(best, performance.now() - start);
    }
    return best;
  };
  group("time.getter_nanoseconds", () => Math.round(time(() => navigator.hardwareConcurrency) / 3000 * 1e6));
})();
