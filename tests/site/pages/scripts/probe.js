// What a page says about itself, sent to /truth. It touches no API that an instrument of fingerprinting watches.
(() => {
  const stringify = JSON.stringify;
  const send = window.fetch.bind(window);
  const page = document.currentScript && document.currentScript.dataset.page;
  const empty = () => ({ calls: {}, worker_calls: {}, cookies: [], navigations: [], failures: [], frames: [], scripts: [], unrun: [], stacks: [], cached: [], notes: [], errors: [] });
  const tagged = (url) => url.includes("v={{v}}") ? url : url + (url.includes("?") ? "&" : "?") + "v={{v}}";
  let report = empty();
  let sets = 0;
  const kept = [];
  const count = (kind, operation, symbol, n) => {
    const key = operation + " " + symbol;
    report[kind][key] = (report[kind][key] || 0) + n;
  };
  window.probe = {
    did(operation, symbol, n = 1) { count("calls", operation, symbol, n); },
    // The same of calls made in a worker.
    workerDid(operation, symbol, n = 1) { count("worker_calls", operation, symbol, n); },
    add(kind, row) { report[kind].push(row); },
    post(more) {
      const body = stringify(Object.assign(report, more));
      report = empty();
      // Browsers refuse to keep more than 64 KiB alive.
      return send("{{self}}/truth?v={{v}}", { method: "POST", body, keepalive: body.length < 20000 }).then((response) => response.text());
    },
    async done(name = page) {
      const next = await window.probe.post({ done: [name], settles: true });
      document.documentElement.dataset.done = name;
      // The visit ends when this arrives, and takes the answer with it.
      if (next === "settle") send("{{self}}/truth?v={{v}}&settled=" + name, { method: "POST", body: stringify({ settled: [name] }) }).catch(() => {});
    },
    // Runs what the page is about, waits for the load event, and reports. What goes wrong is reported, too.
    async run(body) {
      try {
        await body();
        await window.probe.loaded;
      } catch (error) {
        window.probe.add("errors", page + ": " + error);
      }
      await window.probe.done();
    },
    // The same, but the last thing is to leave for another document, which reports its end.
    async leave(body) {
      try {
        await window.probe.settled();
        // Some browsers tell that the document was left while it still loaded something, its icon for one.
        report.navigations.push({ url: location.href, kind: "failed", optional: true });
        await body();
      } catch (error) {
        window.probe.add("errors", page + ": " + error);
        await window.probe.done();
      }
    },
    tagged,
    get: (path, options) => send(tagged(path), options),
    // The text of an answer, once it is whole.
    text: (path, options) => send(tagged(path), options).then((response) => response.text()),
    img: (url) => new Promise((end) => {
      const img = new Image();
      img.onload = img.onerror = end;
      img.src = tagged(url);
    }),
    // URL of an answer made to order: /r/make with what is given of { type, text, status, header, cors }; `header` may
    // be a list. `name` only tells one URL from another.
    make(name, parts = {}) {
      const query = new URLSearchParams({ name });
      for (const [key, values] of Object.entries(parts)) for (const value of [values].flat()) query.append(key, value);
      return "/r/make?" + query + "&v={{v}}";
    },
    // URL of a redirect; `to` keeps its query and gets the token when it has none.
    hop: (status, to) => "/r/redirect?v={{v}}&status=" + status + "&to=" + encodeURIComponent(to),
    // Whether this is Gecko, where the two cannot be told apart by what they support.
    gecko: CSS.supports("-moz-appearance", "none"),
    // The end of a request that no element waits for.
    fetched: (url) => new Promise((end) => {
      const plain = (text) => new URL(text, location.href).href.split("#")[0];
      const name = plain(url);
      new PerformanceObserver((list, observer) => {
        if (!list.getEntries().some((entry) => plain(entry.name) === name)) return;
        observer.disconnect();
        end();
      }).observe({ type: "resource", buffered: true });
    }),
    // Answered once a request for that path (with its whole query, if any) has reached the site.
    reached: (path) => send("/r/await?v={{v}}&path=" + encodeURIComponent(path)).then(async (response) => {
      const text = await response.text();
      if (!response.ok) throw new Error(text);
    }),
    // A new element in the body, and its load or error.
    element(tag, attributes = {}, parent = document.body) {
      const element = document.createElement(tag);
      const settled = new Promise((end) => { element.onload = element.onerror = end; });
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (parent) parent.append(element);
      return { element, settled };
    },
    // The next event of a name; an error event of the same target fails it.
    // Firefox may collect a worker that nothing refers to before it asks for its script.
    event: (target, name) => new Promise((end, fail) => {
      kept.push(target);
      target.addEventListener(name, end, { once: true });
      if (name !== "error") target.addEventListener("error", (event) => fail(new Error(name + " awaited: " + (event.message || "error"))), { once: true });
    }),
    // Reads a property of a realm's navigator.
    touch(realm, name = "platform", n = 1) {
      const navigator = realm.navigator;
      for (let i = 0; i < n; i++) void navigator[name];
      window.probe.did("get", "window.navigator." + name, n);
    },
    // A failure this page provokes: `reached` says whether the site saw the request.
    fails: (url, type, reached = false) => report.failures.push({ url: new URL(url, location.href).href, class: type, reached }),
    // The same of one that a policy refuses before it is made.
    refused: (url, type) => report.failures.push({ url: new URL(url, location.href).href, class: type, unsent: true }),
    // Code that runs here and came by no request of its own: its source, and how it came.
    ran: (how, source) => report.scripts.push({ how, source }),
    // A script that is fetched here and does not run.
    unrun: (url) => report.unrun.push(new URL(url, location.href).href),
    // Uses a recorded property of an object, or a function that requests something, after a stand-in at the very same
    // place has seen the stack there: `use` gets the stand-in, then the object.
    traced(of, name, object, use, operation = "get") {
      const stand = operation === "get" ? { get [name]() { stack = new Error().stack; return ""; } } : { [name]() { stack = new Error().stack; } };
      let stack;
      for (const on of [stand, object]) use(on);
      report.stacks.push({ of, stack });
      window.probe.did(operation, of);
    },
    // The same of a request: `use` gets a function that is to be called with the URL.
    tracedRequest(url, request, use) {
      let stack;
      for (const on of [function stand() { stack = new Error().stack; }, request]) use(on);
      report.stacks.push({ of: new URL(url, location.href).href, request: true, stack });
    },
    // An echoing WebSocket; `ask` sends and awaits the echo, and tells of both frames.
    async socket(body) {
      const socket = new WebSocket("{{ws}}/r/ws?v={{v}}");
      socket.binaryType = "arraybuffer";
      await window.probe.event(socket, "open");
      const text = (data) => typeof data === "string" ? data : btoa(Array.from(new Uint8Array(data), (byte) => String.fromCharCode(byte)).join(""));
      const told = (direction, data) => report.frames.push({ url: socket.url, direction, payload: text(data) });
      await body({
        async ask(data) {
          const echo = window.probe.event(socket, "message");
          socket.send(data);
          told("sent", data);
          told("received", (await echo).data);
        },
      });
      const closed = window.probe.event(socket, "close");
      socket.close();
      await closed;
    },
    blob: (source, type = "text/javascript") => URL.createObjectURL(new Blob([source], { type })),
    // A dedicated worker, until its first message.
    worker: (url, options) => window.probe.event(new Worker(url, options), "message"),
    // A service worker, until it is active (or will never be).
    async service(url, scope) {
      const container = navigator.serviceWorker;
      window.probe.did("get", "window.navigator.serviceWorker");
      const registration = await container.register(url, { scope });
      const worker = registration.installing || registration.waiting || registration.active;
      await new Promise((end) => {
        const check = () => (worker.state === "activated" || worker.state === "redundant") && end();
        worker.onstatechange = check;
        check();
      });
      return worker;
    },
    // A request whose answer sets these cookies.
    sets: (...lines) => window.probe.text(window.probe.make("cookies" + sets++, { header: lines.map((line) => "Set-Cookie: " + line) })),
    // A write to document.cookie.
    writes(text, name, deleted = false) {
      document.cookie = text;
      window.probe.did("set", "window.document.cookie");
      report.cookies.push({ name, host: "{{host}}", deleted });
    },
    // After the load event: until it has ended, a navigation replaces the entry instead of adding one.
    settled: () => window.probe.loaded.then(() => new Promise((end) => setTimeout(end, 0))),
    // A blank document, that one browser tells as a navigation and another does not.
    blank: (url = "about:blank") => report.navigations.push({ url, kind: "blank", optional: true }),
    moved: (kind, url = location.href) => report.navigations.push({ url, kind }),
    loaded: new Promise((end) => window.addEventListener("load", () => end())),
  };
})();
