// What a function is like, without calling it.
(() => {
  const { each, group, show, error, fnText, frames, stackOf, caught, frame, callable } = vectors;
  // Before any question about one of them: Firefox makes them as they are asked for (realm.own_keys_order).
  each("shape.own_keys", ({ f }) => Reflect.ownKeys(f));
  each("shape.name", ({ f }) => f.name);
  each("shape.length", ({ f }) => f.length);
  each("shape.typeof", ({ f }) => typeof f);
  each("shape.name_descriptor", ({ f }) => Object.getOwnPropertyDescriptor(f, "name"));
  each("shape.length_descriptor", ({ f }) => Object.getOwnPropertyDescriptor(f, "length"));
  each("shape.prototype_descriptor", ({ f }) => {
    const d = Object.getOwnPropertyDescriptor(f, "prototype");
    return d && [d.writable, d.enumerable, d.configurable, typeof d.value];
  });
  each("shape.chain", ({ f }) => {
    const chain = [];
    for (let at = Object.getPrototypeOf(f); at !== null; at = Object.getPrototypeOf(at)) {
      chain.push(at === Function.prototype ? "Function" : at === Object.prototype ? "Object" : at === EventTarget ? "EventTarget" : fnText.call(at));
    }
    return chain;
  });
  each("shape.extensible", ({ f }) => [Object.isExtensible(f), Object.isSealed(f), Object.isFrozen(f)]);
  each("shape.tag", ({ f }) => Object.prototype.toString.call(f));
  each("shape.instanceof", ({ f }) => [f instanceof Function, f instanceof Object]);
  each("shape.constructor", ({ f }) => f.constructor === Function);
  each("shape.caller", ({ f }) => error(() => f.caller) + (caught(() => f.caller) ? "" : show(f.caller)));
  each("shape.arguments", ({ f }) => error(() => f.arguments) + (caught(() => f.arguments) ? "" : show(f.arguments)));
  each("shape.in", ({ f }) => ["name", "length", "prototype", "caller", "arguments", "toString", "call", "x"].map((key) => key in f));
  each("shape.for_in", ({ f }) => { const keys = []; for (const key in f) keys.push(key); return keys; });
  each("shape.json", ({ f }) => String(JSON.stringify(f)) + JSON.stringify({ f }));
  each("shape.has_instance", ({ f }) => f[Symbol.hasInstance] === Function.prototype[Symbol.hasInstance]);
  each("shape.symbols", ({ f }) => Object.getOwnPropertySymbols(f));
  each("shape.primitive", ({ f }) => [f[Symbol.toPrimitive], f[Symbol.toStringTag], f[Symbol.iterator]]);
  each("shape.valueOf", ({ f }) => f.valueOf() === f);
  each("shape.to_locale_string", ({ f }) => f.toLocaleString());
  each("shape.getters_of_data", ({ f }) => [Object.prototype.__lookupGetter__.call(f, "name"), Object.prototype.__lookupGetter__.call(f, "length")]);

  each("owner.descriptor", ({ descriptor: d }) => ["value" in d, "get" in d, "set" in d, d.enumerable, d.configurable, d.writable]);
  each("owner.descriptor_keys", ({ owner, property }) => Reflect.ownKeys(Object.getOwnPropertyDescriptor(owner, property)));
  each("owner.identity", ({ owner, property }) => {
    const [a, b] = [0, 1].map(() => Object.getOwnPropertyDescriptor(owner, property));
    return [a.value === b.value, a.get === b.get, a.set === b.set];
  });
  each("owner.lookup", ({ owner, property, descriptor: d }) => [
    Object.prototype.__lookupGetter__.call(owner, property) === d.get, Object.prototype.__lookupSetter__.call(owner, property) === d.set,
  ]);
  each("owner.other_half", ({ descriptor: d }) => [d.get, d.set].map((f) => (f ? [f.name, f.length] : f)));
  each("owner.order", ({ owner }) => Reflect.ownKeys(owner).map(String).join(" "), ({ owner }) => owner !== window);
  each("owner.enumerated", ({ owner }) => { const keys = []; for (const key in owner) keys.push(key); return keys.join(" "); }, ({ owner }) => owner !== window);
  each("owner.constructor", ({ owner }) => {
    const d = Object.getOwnPropertyDescriptor(owner, "constructor");
    return d && [d.value === window[d.value.name], d.value.prototype === owner, d.writable, d.enumerable, d.configurable];
  });
  each("owner.property_is_enumerable", ({ owner, property }) => Object.prototype.propertyIsEnumerable.call(owner, property));
  each("owner.entries", ({ owner, property }) => {
    const all = Object.getOwnPropertyDescriptors(owner);
    return [Reflect.ownKeys(all).length, Object.keys(all).indexOf(property)];
  }, ({ owner }) => owner !== window);
  each("owner.instance_own", ({ self, property }) => Object.prototype.hasOwnProperty.call(self, property));
  each("owner.interface", ({ owner }) => {
    const face = owner.constructor;
    const d = face && Object.getOwnPropertyDescriptor(face, "prototype");
    return d && [d.writable, d.enumerable, d.configurable, Reflect.ownKeys(face).map(String).join(" "), fnText.call(face)];
  });
  group("owner.aliases", () => [
    ["webkitRTCPeerConnection", "RTCPeerConnection"], ["webkitURL", "URL"], ["WebKitMutationObserver", "MutationObserver"],
  ].map(([a, b]) => [a in window, window[a] === window[b]]));
  group("owner.subclasses", () => [
    window.AudioContext && Object.getPrototypeOf(AudioContext) === window.BaseAudioContext,
    window.OfflineAudioContext && Object.getPrototypeOf(OfflineAudioContext) === window.BaseAudioContext,
    window.RTCPeerConnection && Object.getPrototypeOf(RTCPeerConnection) === EventTarget,
    window.RTCPeerConnection && new RTCPeerConnection().constructor === RTCPeerConnection,
    Object.getPrototypeOf(HTMLCanvasElement) === HTMLElement,
  ]);
  group("owner.function_prototype", () => show(Object.entries(Object.getOwnPropertyDescriptors(Function.prototype)).map(([key, d]) => [key, d.enumerable, d.configurable, d.writable])));

  each("text.direct", ({ f }) => fnText.call(f));
  each("text.method", ({ f }) => f.toString());
  each("text.concatenation", ({ f }) => f + "");
  each("text.string", ({ f }) => String(f));
  each("text.template", ({ f }) => `${f}`);
  each("text.reflect", ({ f }) => Reflect.apply(Function.prototype.toString, f, []));
  each("text.bound", ({ f }) => fnText.call(f.bind(null)));
  each("text.proxied", ({ f }) => error(() => fnText.call(new Proxy(f, {}))) + fnText.call(new Proxy(f, {})));
  each("text.other_realm", ({ f }) => {
    const made = frame();
    const text = made.contentWindow.Function.prototype.toString.call(f);
    made.remove();
    return text;
  });
  each("text.of_other_realm", ({ owner, property, kind }) => {
    const made = frame();
    const view = made.contentWindow;
    const face = owner === window ? view : view[owner.constructor?.name]?.prototype;
    const d = face && Object.getOwnPropertyDescriptor(face, property);
    const f = d && (kind === "get" ? d.get : kind === "set" ? d.set : d.value);
    const text = f ? [fnText.call(f), f.name, f === targetOf(owner, property, kind)] : "none";
    made.remove();
    return text;
  });
  const targetOf = (owner, property, kind) => {
    const d = Object.getOwnPropertyDescriptor(owner, property);
    return kind === "get" ? d.get : kind === "set" ? d.set : d.value;
  };
  each("text.inherited", ({ f }) => error(() => Object.create(f).toString()));
  each("text.inherited_stack", ({ f }) => stackOf(() => Object.create(f) + ""), callable);
  each("text.through_error", ({ f }) => error(() => { null[f]; }));
  each("text.symbol_conversion", ({ f }) => error(() => Symbol.keyFor(f)));
  each("text.not_iterable", ({ f }) => error(() => { const [a] = f; return a; }));
  each("text.not_in", ({ f }) => error(() => "x" in f.name));
  group("text.of_text", () => [fnText.call(fnText), fnText + "", fnText.name, fnText.length, fnText.toString === fnText]);
  group("text.of_text_other_realm", () => {
    const made = frame();
    const theirs = made.contentWindow.Function.prototype.toString;
    const told = [theirs.call(fnText), fnText.call(theirs), theirs === fnText, theirs.name, Reflect.ownKeys(theirs)];
    made.remove();
    return told;
  });
  for (const [name, self] of [["object", {}], ["null", null], ["undefined", undefined], ["number", 1], ["proxy_of_object", new Proxy({}, {})]]) {
    group("text.wrong_" + name, () => error(() => fnText.call(self)));
    group("text.wrong_" + name + "_stack", () => frames(caught(() => fnText.call(self))?.stack ?? "").map((line) => line.replace(/:\d+(:\d+)?\)?$/, "")));
  }
  group("text.class", () => fnText.call(class A { b() { return 1; } }));
})();
