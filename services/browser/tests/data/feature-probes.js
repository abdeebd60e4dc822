// What each API is asked of, and with which arguments: one use at a time, in a page of its own.
const canvas2d = () => document.createElement("canvas").getContext("2d");
const offscreen = () => new OffscreenCanvas(9, 9);
const audio = () => new OfflineAudioContext(1, 64, 44100);
const peer = () => new RTCPeerConnection();
const make = {
  ScriptProcessorNode: () => audio().createScriptProcessor(256, 1, 1),
  GainNode: () => audio().createGain(),
  AnalyserNode: () => audio().createAnalyser(),
  OscillatorNode: () => audio().createOscillator(),
  OfflineAudioContext: audio,
  AudioContext: () => new AudioContext(),
  BaseAudioContext: audio,
  AudioWorkletNode: null,
  AudioWorklet: () => audio().audioWorklet,
  DynamicsCompressorNode: () => audio().createDynamicsCompressor(),
  BiquadFilterNode: () => audio().createBiquadFilter(),
  AudioBuffer: () => audio().createBuffer(1, 64, 44100),
  RTCPeerConnection: peer,
  RTCDataChannel: () => peer().createDataChannel("a"),
  RTCIceCandidate: () => new RTCIceCandidate({ candidate: "candidate:1 1 UDP 1 127.0.0.1 9 typ host", sdpMid: "0" }),
  RTCSessionDescription: () => new RTCSessionDescription({ type: "offer", sdp: "" }),
  HTMLCanvasElement: () => document.createElement("canvas"),
  OffscreenCanvas: offscreen,
  CanvasRenderingContext2D: canvas2d,
  OffscreenCanvasRenderingContext2D: () => offscreen().getContext("2d"),
  WebGLRenderingContext: () => document.createElement("canvas").getContext("webgl"),
  WebGL2RenderingContext: () => document.createElement("canvas").getContext("webgl2"),
  GPU: () => navigator.gpu,
  GPUAdapter: () => navigator.gpu?.requestAdapter(),
  Storage: () => localStorage,
  FontFaceSet: () => document.fonts,
  HTMLElement: () => document.body,
  MediaDevices: () => navigator.mediaDevices,
  MediaDeviceInfo: async () => (await navigator.mediaDevices.enumerateDevices())[0],
  MediaCapabilities: () => navigator.mediaCapabilities,
  HTMLMediaElement: () => document.createElement("audio"),
  SpeechSynthesis: () => speechSynthesis,
  IDBFactory: () => indexedDB,
  CacheStorage: () => caches,
  StorageManager: () => navigator.storage,
  CookieStore: () => cookieStore,
  NavigatorUAData: () => navigator.userAgentData,
  NetworkInformation: () => navigator.connection,
  BatteryManager: () => navigator.getBattery(),
  PluginArray: () => navigator.plugins,
  MimeTypeArray: () => navigator.mimeTypes,
  Keyboard: () => navigator.keyboard,
  DeviceMotionEvent: () => new DeviceMotionEvent("devicemotion"),
  DeviceOrientationEvent: () => new DeviceOrientationEvent("deviceorientation"),
  Sensor: () => new Accelerometer(),
  Accelerometer: () => new Accelerometer(),
  Gyroscope: () => new Gyroscope(),
  OrientationSensor: () => new AbsoluteOrientationSensor(),
  Permissions: () => navigator.permissions,
  Clipboard: () => navigator.clipboard,
  CredentialsContainer: () => navigator.credentials,
  Bluetooth: () => navigator.bluetooth,
  USB: () => navigator.usb,
  HID: () => navigator.hid,
  Serial: () => navigator.serial,
  Performance: () => performance,
  Geolocation: () => navigator.geolocation,
  XMLHttpRequest: () => { const r = new XMLHttpRequest(); r.open("GET", "/empty"); return r; },
  "window.Intl.DateTimeFormat.prototype": () => new Intl.DateTimeFormat(),
  "window.Date.prototype": () => new Date(),
};
const given = {
  addEventListener: () => ["x", () => {}], removeEventListener: () => ["x", () => {}], dispatchEvent: () => [new Event("x")],
  getItem: () => ["a"], setItem: () => ["a", "b"], removeItem: () => ["a"], key: () => [0],
  getContext: () => ["2d"], toBlob: () => [() => {}], convertToBlob: () => [], measureText: () => ["a"],
  fillText: () => ["a", 1, 1], strokeText: () => ["a", 1, 1], getImageData: () => [0, 0, 1, 1],
  putImageData: () => [new ImageData(1, 1), 0, 0], createImageData: () => [1, 1], fillRect: () => [0, 0, 1, 1], strokeRect: () => [0, 0, 1, 1], rect: () => [0, 0, 1, 1],
  arc: () => [1, 1, 1, 0, 1], arcTo: () => [1, 1, 2, 2, 1], ellipse: () => [1, 1, 1, 1, 0, 0, 1], bezierCurveTo: () => [1, 1, 1, 1, 1, 1],
  createLinearGradient: () => [0, 0, 1, 1], createRadialGradient: () => [0, 0, 1, 0, 0, 2], createConicGradient: () => [0, 0, 0],
  createPattern: () => [document.createElement("canvas"), "repeat"], isPointInPath: () => [1, 1], isPointInStroke: () => [1, 1], rotate: () => [1], scale: () => [1, 1],
  roundRect: () => [0, 0, 1, 1, 1], setLineDash: () => [[1]], drawFocusIfNeeded: () => [document.body], drawImage: () => [document.createElement("canvas"), 0, 0],
  getParameter: () => [7936], getExtension: () => ["WEBGL_debug_renderer_info"], getShaderPrecisionFormat: () => [35633, 36338], readPixels: () => [0, 0, 1, 1, 6408, 5121, new Uint8Array(4)],
  createScriptProcessor: () => [256, 1, 1], createBuffer: () => [1, 64, 44100], createPeriodicWave: () => [new Float32Array(2), new Float32Array(2)], createIIRFilter: () => [[1], [1]],
  createMediaElementSource: () => [document.createElement("audio")], decodeAudioData: () => [new ArrayBuffer(8)], suspend: () => [0.0005],
  getFloatFrequencyData: () => [new Float32Array(8)], getByteFrequencyData: () => [new Uint8Array(8)], getFloatTimeDomainData: () => [new Float32Array(8)], getByteTimeDomainData: () => [new Uint8Array(8)],
  getChannelData: () => [0], copyFromChannel: () => [new Float32Array(8), 0], getFrequencyResponse: () => [new Float32Array(1), new Float32Array(1), new Float32Array(1)],
  start: () => [], stop: () => [], setPeriodicWave: () => [audio().createPeriodicWave(new Float32Array(2), new Float32Array(2))],
  createDataChannel: () => ["a"], setLocalDescription: () => [], setRemoteDescription: () => [{ type: "offer", sdp: "v=0\r\n" }], addIceCandidate: () => [{ candidate: "", sdpMid: "0" }],
  addTransceiver: () => ["audio"], createDTMFSender: () => [], send: () => ["a"], addTrack: () => [document.createElement("canvas").captureStream().getTracks()[0]],
  check: () => ["12px serif"], load: () => ["12px serif"], forEach: () => [() => {}], captureStream: () => [], transferControlToOffscreen: () => [],
  getUserMedia: () => [{ audio: true }], getDisplayMedia: () => [{}], decodingInfo: () => [{ type: "file", audio: { contentType: "audio/webm; codecs=opus" } }], encodingInfo: () => [{ type: "record", audio: { contentType: "audio/webm; codecs=opus" } }],
  canPlayType: () => ["audio/ogg"], setSinkId: () => [""], isTypeSupported: () => ["audio/webm"],
  open: (o) => o instanceof XMLHttpRequest ? ["GET", "/empty"] : ["a"], deleteDatabase: () => ["a"], has: () => ["a"], match: () => ["/a"], delete: () => ["a"],
  get: (o) => typeof CookieStore === "function" && o instanceof CookieStore ? ["a"] : [], getAll: () => ["a"], set: () => ["a", "b"],
  sendBeacon: () => ["/empty"], vibrate: () => [1], registerProtocolHandler: () => ["web+a", location.origin + "/?%s"], unregisterProtocolHandler: () => ["web+a", location.origin + "/?%s"], getInstalledRelatedApps: () => [], requestMIDIAccess: () => [],
  requestMediaKeySystemAccess: () => ["org.w3.clearkey", [{ initDataTypes: ["keyids"], audioCapabilities: [{ contentType: "audio/webm; codecs=opus" }] }]], share: () => [{ title: "a" }], canShare: () => [{ title: "a" }], webkitGetUserMedia: () => [{ audio: true }, () => {}, () => {}], getUserMediaLegacy: () => [], setAppBadge: () => [1], getGamepads: () => [],
  getHighEntropyValues: () => [["model"]], item: () => [0], namedItem: () => ["a"], query: () => [{ name: "geolocation" }], writeText: () => ["a"], write: () => [[]],
  getEntriesByName: () => ["a"], getEntriesByType: () => ["mark"], getCurrentPosition: () => [() => {}, () => {}], watchPosition: () => [() => {}, () => {}],
  setRequestHeader: () => ["x-a", "b"], matchMedia: () => ["(color)"], fetch: () => ["/empty"], populateMatrix: () => [new Float32Array(16)],
  WebSocket: () => [location.origin.replace("http", "ws") + "/none"], EventSource: () => ["/empty"], Worker: () => ["/worker.js"], SharedWorker: () => ["/worker.js"], OfflineAudioContext: () => [1, 64, 44100],
  create: () => [{}], store: () => [new PasswordCredential({ id: "a", password: "b" })], requestDevice: () => [{ filters: [{}] }], requestPort: () => [], connect: () => [audio().destination], joinAdInterestGroup: () => [{ owner: location.origin, name: "a" }, 1], deprecatedURNToURL: () => ["urn:uuid:c36973b5-e5d9-de59-e4c4-364f137b3c7a"],
  addModule: () => ["/worker.js"], setConfiguration: () => [{}], getStats: () => [], generateCertificate: () => [{ name: "ECDSA", namedCurve: "P-256" }],
};
const objectOf = (target) => target.path.reduce((at, name) => at?.[name], window);
// The uses that the settings ask for: [symbol, property, operation].
function uses(target) {
  const { propertiesToInstrument: asked, excludedProperties: not } = target.logSettings;
  const top = objectOf(target);
  if (top === undefined || asked === null) return [];
  const found = new Map();
  const own = target.object.endsWith("prototype");
  for (let at = top; at && at !== Object.prototype && at !== Function.prototype && at !== EventTarget.prototype; at = own ? null : Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) {
      if (name === "constructor" || found.has(name) || not.includes(name) || (asked.length > 0 && !asked.includes(name))) continue;
      found.set(name, Object.getOwnPropertyDescriptor(at, name));
    }
  }
  const all = [];
  for (const [name, { get, set, value }] of found) {
    const symbol = `${target.instrumentedName}.${name}`;
    if (typeof value === "function") all.push([symbol, name, "call"]);
    if (get) all.push([symbol, name, "get"]);
    if (set) all.push([symbol, name, "set"]);
  }
  return all;
}
const settled = (value) => Promise.race([Promise.resolve(value).catch(() => {}), new Promise((end) => setTimeout(end, 150))]);
// One use; `operation` "none" makes what it is used on, and no more.
async function use(target, name, operation) {
  const factory = make[target.instrumentedName];
  const on = factory === null ? null : factory ? await settled(factory()) : objectOf(target);
  if (operation === "none") return "made";
  try {
    let value;
    if (operation === "get") value = on[name];
    else if (operation === "set") on[name] = typeof given[name] === "function" ? given[name](on)[0] : name.startsWith("on") ? () => {} : "1";
    else { const args = given[name]?.(on) ?? []; value = /^[A-Z]/.test(name) && on === window ? new on[name](...args) : on[name](...args); }
    await settled(value);
    return "used";
  } catch (error) { return String(error); }
}
