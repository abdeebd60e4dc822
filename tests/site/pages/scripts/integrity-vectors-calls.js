// What happens when a function is called, rightly and wrongly.
(() => {
  const { each, group, show, error, caught, frames, stackOf, callable, withArguments, frame, sleep, clean } = vectors;
  const wrong = (t) => () => Reflect.apply(t.f, {}, t.args);
  each("call.wrong_receiver", (t) => error(wrong(t)), callable);
  each("call.wrong_receiver_stack", (t) => stackOf(wrong(t)), callable);
  each("call.null", (t) => error(() => t.f.call(null, ...t.args)), callable);
  each("call.undefined", (t) => error(() => t.f.call(undefined, ...t.args)), callable);
  each("call.inheriting_receiver", (t) => error(() => t.f.call(Object.create(t.self), ...t.args)), callable);
  each("call.prototype_receiver", (t) => error(() => t.f.call(t.owner, ...t.args)), callable);
  each("call.bad_list", (t) => error(() => t.f.apply(t.self, 1)), callable);
  each("call.bad_list_stack", (t) => stackOf(() => t.f.apply(t.self, 1)), callable);
  each("call.error_realm", (t) => {
    const thrown = caught(wrong(t));
    return thrown && [thrown instanceof TypeError, thrown.constructor === TypeError, Object.getPrototypeOf(thrown) === TypeError.prototype];
  }, callable);
  each("call.error_keys", (t) => { const thrown = caught(wrong(t)); return thrown && Reflect.ownKeys(thrown); }, callable);
  each("call.error_place", (t) => { const thrown = caught(wrong(t)); return thrown && [thrown.fileName, thrown.lineNumber, thrown.columnNumber]; }, callable);
  each("call.too_few", (t) => error(() => t.f.call(t.self)), withArguments);
  each("call.too_few_stack", (t) => stackOf(() => t.f.call(t.self)), withArguments);
  each("call.new", (t) => error(() => new t.f(...t.args)), callable);
  each("call.new_stack", (t) => stackOf(() => new t.f(...t.args)), callable);
  each("call.new_bound", (t) => error(() => new (t.f.bind(null))(...t.args)), callable);
  each("call.reflect_construct", (t) => error(() => Reflect.construct(t.f, t.args)), callable);
  each("call.new_target", (t) => error(() => Reflect.construct(Object, [], t.f)));
  each("call.extends", (t) => error(() => class A extends t.f {}));
  each("call.new_extended", (t) => error(() => { class A extends t.f {} return new A(...t.args); }));
  each("call.constructor_without_new", (t) => error(() => t.f(...t.args)), (t) => t.kind === "new");
  each("call.constructed", (t) => {
    const made = new t.f(...t.args);
    return [made instanceof t.f, made.constructor === t.f, Object.getPrototypeOf(made) === t.f.prototype];
  }, (t) => t.kind === "new");
  each("call.constructed_as", (t) => {
    class A {}
    const made = Reflect.construct(t.f, t.args, A);
    return [made instanceof A, made instanceof t.f];
  }, (t) => t.kind === "new");
  each("call.constructor_bad_options", (t) => stackOf(() => new t.f("bad", "bad", "bad")), (t) => t.kind === "new");
  each("call.tagged", (t) => error(() => t.f``), callable);
  each("call.bound_shape", ({ f }) => { const b = f.bind(null, 1); return [b.name, b.length]; });
  each("call.proxy", (t) => error(() => Reflect.apply(new Proxy(t.f, {}), {}, t.args)), callable);
  each("call.proxy_stack", (t) => stackOf(() => Reflect.apply(new Proxy(t.f, {}), {}, t.args)), callable);
  each("call.object_with_prototype", (t) => error(() => Object.create(t.owner)[t.property]), (t) => t.kind === "get");
  each("call.prototype_read", (t) => error(() => t.owner[t.property]), (t) => t.kind === "get" && t.owner !== window);
  each("call.assign_to_getter", (t) => error(() => { "use strict"; t.self[t.property] = 1; }), (t) => t.kind === "get" && !t.descriptor.set);
  each("call.value", (t) => { const value = t.f.call(t.self); return [typeof value, value === t.self[t.property]]; }, (t) => t.kind === "get" && t.property !== "plugins");
  each("call.same_object", (t) => t.self[t.property] === t.self[t.property], (t) => t.kind === "get");
  each("call.cross_realm_receiver", (t) => {
    const made = frame();
    const view = made.contentWindow;
    const theirs = Object.getOwnPropertyDescriptor(view[t.owner.constructor.name].prototype, t.property);
    const told = error(() => theirs.get.call(t.self));
    const thrown = caught(() => theirs.get.call({}));
    const realm = thrown && [thrown instanceof view.TypeError, thrown instanceof TypeError];
    made.remove();
    return [told, realm];
  }, (t) => t.kind === "get");
  each("call.no_side_effect_of_stack_settings", (t) => {
    const kept = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    const none = stackOf(wrong(t));
    Error.stackTraceLimit = 1;
    const one = stackOf(wrong(t));
    const after = Error.stackTraceLimit;
    Error.stackTraceLimit = kept;
    return [none, one, after];
  }, callable);
  each("call.prepare_stack_trace", (t) => {
    let asked = 0;
    let names = [];
    Error.prepareStackTrace = (e, sites) => { asked++; names = sites.map((site) => site.getFunctionName?.()); return "mine"; };
    const stack = caught(wrong(t))?.stack;
    t.kind === "get" && t.f.call(t.self);
    delete Error.prepareStackTrace;
    return [asked, stack === "mine", names];
  }, callable);
  each("call.stack_limit_watched", (t) => {
    const d = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit");
    let read = 0;
    Object.defineProperty(Error, "stackTraceLimit", { configurable: true, get: () => { read++; return 10; } });
    error(() => t.f.apply(t.self, t.args));
    if (d) Object.defineProperty(Error, "stackTraceLimit", d);
    else delete Error.stackTraceLimit;
    return read;
  }, (t) => callable(t) && t.property !== "toString");

  // Page code that the native calls back sees who called it.
  each("callback.argument_stack", (t) => {
    let stack = null;
    const spy = { toString() { stack = new Error("x").stack; return "2d"; } };
    error(() => t.f.call(t.self, spy, ...t.args.slice(1)));
    return stack === null ? "not called" : frames(stack);
  }, withArguments);
  each("callback.argument_calls", (t) => {
    let calls = 0;
    const spy = { toString() { calls++; return "2d"; }, valueOf() { calls += 100; return "2d"; } };
    error(() => t.f.call(t.self, spy, ...t.args.slice(1)));
    return calls;
  }, withArguments);
  each("callback.argument_watch", (t) => {
    const seen = [];
    const spy = new Proxy({}, { get: (_, key) => { seen.push(String(key)); return undefined; }, has: (_, key) => { seen.push("has " + String(key)); return false; }, ownKeys: () => { seen.push("keys"); return []; }, getPrototypeOf: () => { seen.push("proto"); return null; }, getOwnPropertyDescriptor: () => { seen.push("own"); return undefined; } });
    error(() => t.f.call(t.self, spy, ...t.args.slice(1)));
    return seen;
  }, withArguments);
  each("callback.thrown", (t) => {
    const mine = new Error("mine");
    const before = mine.stack;
    const thrown = caught(() => t.f.call(t.self, { toString() { throw mine; } }));
    return [thrown === mine, mine.stack === before];
  }, withArguments);
  each("callback.caller", (t) => {
    let told = "not called";
    const spy = { toString: function toString() { told = show(toString.caller && toString.caller.name); return "2d"; } };
    (function outer() { error(() => t.f.call(t.self, spy)); })();
    return told;
  }, withArguments);
  group("callback.options", () => {
    let stack = null;
    document.createElement("canvas").getContext("2d", { get alpha() { stack = new Error("x").stack; return true; } });
    return stack === null ? "not called" : frames(stack);
  });
  group("callback.constructor_options", () => {
    let stack = null;
    if (window.RTCPeerConnection) new RTCPeerConnection({ get iceServers() { stack = new Error("x").stack; return []; } });
    return stack === null ? "not called" : frames(stack);
  });
  group("callback.setter_value", () => {
    let stack = null;
    document.createElement("canvas").getContext("2d").fillStyle = { toString() { stack = new Error("x").stack; return "red"; } };
    return stack === null ? "not called" : frames(stack);
  });
  group("callback.cookie_value", () => {
    let stack = null;
    document.cookie = { toString() { stack = new Error("x").stack; return "vector=1"; } };
    return stack === null ? "not called" : frames(stack);
  });
  group("callback.from_page_function", () => {
    let stack = null;
    const spy = { toString() { stack = new Error("x").stack; return "k"; } };
    [1].forEach(() => localStorage.getItem(spy));
    return frames(stack ?? "not called");
  });
  group("callback.incumbent", async () => {
    const made = frame();
    const script = made.contentDocument.createElement("script");
    script.textContent = "parent.postMessage('incumbent', '*')";
    const told = new Promise((end) => addEventListener("message", function hear(event) {
      if (event.data !== "incumbent") return;
      removeEventListener("message", hear);
      end(event.source === made.contentWindow ? "the frame" : event.source === window ? "this window" : String(event.source));
    }));
    made.contentDocument.documentElement.append(script);
    const source = await told;
    made.remove();
    return source;
  });

  const reported = (run) => new Promise((end) => {
    addEventListener("error", function hear(event) {
      event.preventDefault();
      removeEventListener("error", hear);
      end([clean(event.filename), event.lineno, event.colno, event.message, event.error && frames(event.error.stack)]);
    });
    setTimeout(run);
  });
  group("error.uncaught", () => reported(() => localStorage.getItem()));
  group("error.uncaught_getter", () => reported(() => Navigator.prototype.userAgent));
  group("error.uncaught_new", () => reported(() => new (Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, "toDataURL").value)()));
  group("error.dom_exception", () => {
    const thrown = caught(() => context().getImageData(0, 0, 0, 0));
    return thrown && [thrown.name, thrown.code, thrown instanceof DOMException, frames(thrown.stack ?? "")];
  });
  const context = () => document.createElement("canvas").getContext("2d");
  group("error.rejection", async () => {
    if (!window.RTCPeerConnection) return "none";
    try {
      await new RTCPeerConnection().setLocalDescription({ type: "bad" });
    } catch (reason) {
      return [reason.name, clean(reason.message), frames(reason.stack ?? "")];
    }
    return "fulfilled";
  });
  group("error.promise_identity", () => {
    if (!window.RTCPeerConnection) return "none";
    const promise = new RTCPeerConnection().createOffer();
    return [promise instanceof Promise, promise.constructor === Promise, Reflect.ownKeys(promise)];
  });
  group("error.csp_source", async () => {
    const told = new Promise((end) => addEventListener("securitypolicyviolation", (event) => {
      end([clean(event.sourceFile), event.lineNumber, event.violatedDirective]);
    }, { once: true }));
    const meta = document.createElement("meta");
    meta.httpEquiv = "Content-Security-Policy";
    meta.content = "object-src 'none'; font-src 'none'";
    document.head.append(meta);
    const face = new FontFace("none", "url(/r/none.woff)");
    face.load().catch(() => {});
    return Promise.race([told, sleep(2000).then(() => "no event")]);
  });

  group("depth.through_argument", () => {
    // How many nested calls fit, against calls that pass through no native: coarse, as stacks vary.
    const native = (n) => { let deepest = 0; const dive = () => { deepest++; localStorage.getItem({ toString() { dive(); return "k"; } }); }; try { dive(); } catch { /* the end */ } return deepest; };
    const control = () => { let deepest = 0; const dive = () => { deepest++; "".padEnd({ valueOf() { dive(); return 0; } }); }; try { dive(); } catch { /* the end */ } return deepest; };
    native();
    control();
    const ratio = native() / control();
    return ratio < 0.45 ? "less than half" : "alike";
  });
  group("depth.error", () => {
    const dive = () => { localStorage.getItem({ toString() { dive(); return "k"; } }); };
    const thrown = caught(dive);
    const top = frames(thrown?.stack ?? "").slice(0, 3).map((line) => line.replace(/:\d+(:\d+)?\)?$/, ""));
    return [thrown?.name, clean(thrown?.message ?? ""), top.some((line) => /extension:/.test(line))];
  });

  each("change.prototype", ({ f }) => {
    const kept = Object.getPrototypeOf(f);
    const told = [error(() => Object.setPrototypeOf(f, null)), Object.getPrototypeOf(f) === null];
    Object.setPrototypeOf(f, kept);
    return [...told, Object.getPrototypeOf(f) === kept];
  });
  each("change.cyclic", ({ f }) => error(() => Object.setPrototypeOf(f, Object.create(f))));
  each("change.cyclic_stack", ({ f }) => stackOf(() => Object.setPrototypeOf(f, Object.create(f))));
  each("change.cyclic_reflect", ({ f }) => Reflect.setPrototypeOf(f, Object.create(f)));
  each("change.cyclic_self", ({ f }) => error(() => { f.__proto__ = f; }));
  each("change.instanceof", ({ f }) => error(() => ({}) instanceof f));
  each("change.define", ({ f }) => { Object.defineProperty(f, "x", { value: 1, configurable: true }); return [f.x, Reflect.ownKeys(f), delete f.x]; });
  each("change.assign_name", ({ f }) => error(() => { "use strict"; f.name = "x"; }));
  each("change.delete_name", ({ f }) => {
    const kept = Object.getOwnPropertyDescriptor(f, "name");
    const told = [delete f.name, f.name];
    Object.defineProperty(f, "name", kept);
    return told;
  });
  each("change.replace", ({ owner, property, descriptor }) => {
    const mine = { configurable: true, value: 1 };
    Object.defineProperty(owner, property, mine);
    const seen = Object.getOwnPropertyDescriptor(owner, property).value;
    Object.defineProperty(owner, property, descriptor);
    const back = Object.getOwnPropertyDescriptor(owner, property);
    return [seen, back.get === descriptor.get, back.value === descriptor.value];
  });
  each("clone.structured", ({ f }) => error(() => structuredClone(f)));
  each("clone.post_message", ({ f }) => error(() => new MessageChannel().port1.postMessage(f)));
  each("clone.history", ({ f }) => error(() => history.replaceState(f, "")));
  each("clone.in_object", ({ f }) => error(() => structuredClone({ a: [f] })));
})();
