//! The named collections.

use super::{LogSettings, Target, name};

/// A list of APIs under a name.
pub struct Collection {
    pub name: &'static str,
    pub about: &'static str,
    pub entries: &'static [Entry],
}

/// One API of a collection.
pub struct Entry {
    /// As a user would write it.
    pub name: &'static str,
    /// Empty: all.
    pub properties: &'static [&'static str],
    pub excluded: &'static [&'static str],
    pub call_stack: bool,
}

impl Entry {
    pub(super) fn target(&self) -> Target {
        let name::Place { object, instrumented_name, path } =
            name::place(self.name).expect("collections hold names of APIs; a test holds them");
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let log_settings = LogSettings {
            properties_to_instrument: Some(owned(self.properties)),
            excluded_properties: owned(self.excluded),
            log_call_stack: self.call_stack,
            ..LogSettings::default()
        };
        Target { object, instrumented_name, path, required: false, log_settings }
    }
}

const fn all(name: &'static str) -> Entry {
    Entry { name, properties: &[], excluded: &[], call_stack: false }
}

const fn some(name: &'static str, properties: &'static [&'static str]) -> Entry {
    Entry { name, properties, excluded: &[], call_stack: false }
}

const fn but(name: &'static str, excluded: &'static [&'static str]) -> Entry {
    Entry { name, properties: &[], excluded, call_stack: false }
}

/// Every collection.
pub const COLLECTIONS: &[Collection] = &[
    Collection {
        name: "collection_fingerprinting",
        about: "OpenWPM's collection of APIs that fingerprinting scripts use, exactly",
        entries: FINGERPRINTING,
    },
    Collection {
        name: "collection_extended",
        about: "Ours: the former, and what scripts have taken to since: audio worklets, WebGL and WebGPU, fonts, sensors, \
                permissions, devices, battery, WebRTC, storage, clipboard, timing, network",
        entries: EXTENDED,
    },
    Collection {
        name: "collection_stealth",
        about: "Ours: the fifty functions that tell most, for Chromium's capture mode `stealth`, whose default it is",
        entries: STEALTH,
    },
];

/// Drawing commands that say nothing of the device.
const DRAWING: &[&str] = &[
    "quadraticCurveTo",
    "lineTo",
    "transform",
    "globalAlpha",
    "moveTo",
    "drawImage",
    "setTransform",
    "clearRect",
    "closePath",
    "beginPath",
    "canvas",
    "translate",
];

const DOCUMENT: Entry =
    Entry { name: "window.document", properties: &["cookie", "referrer"], excluded: &[], call_stack: true };

const FINGERPRINTING: &[Entry] = &[
    all("ScriptProcessorNode"),
    all("GainNode"),
    all("AnalyserNode"),
    all("OscillatorNode"),
    all("OfflineAudioContext"),
    all("AudioContext"),
    all("RTCPeerConnection"),
    all("HTMLCanvasElement"),
    all("Storage"),
    all("window.navigator"),
    but("CanvasRenderingContext2D", DRAWING),
    some("window", &["name", "localStorage", "sessionStorage"]),
    DOCUMENT,
    some("window.screen", &["pixelDepth", "colorDepth"]),
];

const STEALTH: &[Entry] = &[
    some(
        "window.navigator",
        &[
            "userAgent",
            "userAgentData",
            "platform",
            "vendor",
            "appName",
            "product",
            "language",
            "languages",
            "hardwareConcurrency",
            "deviceMemory",
            "maxTouchPoints",
            "webdriver",
            "plugins",
            "mimeTypes",
            "sendBeacon",
        ],
    ),
    some("window.screen", &["width", "height", "colorDepth", "pixelDepth"]),
    DOCUMENT,
    some("HTMLCanvasElement", &["toDataURL", "toBlob", "getContext"]),
    some("CanvasRenderingContext2D", &["getImageData", "measureText", "fillText", "fillStyle", "font"]),
    some("WebGLRenderingContext", &["getParameter", "getExtension", "getSupportedExtensions"]),
    some("WebGL2RenderingContext", &["getParameter"]),
    some("Storage", &["getItem", "setItem", "removeItem", "clear"]),
    some(
        "window",
        &["localStorage", "sessionStorage", "RTCPeerConnection", "OfflineAudioContext", "AudioContext"],
    ),
    some("RTCPeerConnection", &["createDataChannel", "createOffer"]),
    some("BaseAudioContext", &["createOscillator", "createDynamicsCompressor"]),
    some("OfflineAudioContext", &["startRendering"]),
    some("AudioBuffer", &["getChannelData"]),
    some("Permissions", &["query"]),
    some("MediaDevices", &["enumerateDevices"]),
];

/// What a context of WebGL tells of the graphics hardware.
const WEBGL: &[&str] = &[
    "getParameter",
    "getExtension",
    "getSupportedExtensions",
    "getShaderPrecisionFormat",
    "getContextAttributes",
    "readPixels",
    "drawingBufferColorSpace",
    "makeXRCompatible",
];

/// Whether a device is there, and asking for it.
const DEVICES: &[&str] = &["getAvailability", "getDevices", "getPorts", "requestDevice", "requestPort"];

const EXTENDED: &[Entry] = &[
    // Audio.
    all("ScriptProcessorNode"),
    all("GainNode"),
    all("AnalyserNode"),
    all("OscillatorNode"),
    all("OfflineAudioContext"),
    all("AudioContext"),
    all("BaseAudioContext"),
    all("AudioWorkletNode"),
    all("AudioWorklet"),
    all("DynamicsCompressorNode"),
    all("BiquadFilterNode"),
    some("AudioBuffer", &["getChannelData", "copyFromChannel"]),
    // Canvas, WebGL, WebGPU.
    all("HTMLCanvasElement"),
    all("OffscreenCanvas"),
    but("CanvasRenderingContext2D", DRAWING),
    but("OffscreenCanvasRenderingContext2D", DRAWING),
    some("WebGLRenderingContext", WEBGL),
    some("WebGL2RenderingContext", WEBGL),
    some("GPU", &["requestAdapter", "getPreferredCanvasFormat", "wgslLanguageFeatures"]),
    some("GPUAdapter", &["features", "limits", "info", "requestDevice"]),
    // Fonts: those there are, and the sizes that give them away.
    some("FontFaceSet", &["check", "load", "forEach", "entries", "keys", "values", "size"]),
    some("HTMLElement", &["offsetWidth", "offsetHeight"]),
    // WebRTC.
    all("RTCPeerConnection"),
    all("RTCDataChannel"),
    some("RTCIceCandidate", &["address", "candidate", "port", "protocol", "relatedAddress", "type"]),
    some("RTCSessionDescription", &["sdp", "toJSON"]),
    // Media: devices, formats, voices.
    all("MediaDevices"),
    some("MediaDeviceInfo", &["deviceId", "groupId", "kind", "label"]),
    some("MediaCapabilities", &["decodingInfo", "encodingInfo"]),
    some("HTMLMediaElement", &["canPlayType", "setSinkId", "sinkId"]),
    some("window.MediaSource", &["isTypeSupported"]),
    some("window.MediaRecorder", &["isTypeSupported"]),
    some("SpeechSynthesis", &["getVoices"]),
    // Storage.
    all("Storage"),
    some("IDBFactory", &["open", "deleteDatabase", "databases"]),
    some("CacheStorage", &["open", "has", "keys", "match", "delete"]),
    all("StorageManager"),
    all("CookieStore"),
    DOCUMENT,
    // The browser and its machine.
    all("window.navigator"),
    all("NavigatorUAData"),
    all("NetworkInformation"),
    all("BatteryManager"),
    some("PluginArray", &["length", "item", "namedItem", "refresh"]),
    some("MimeTypeArray", &["length", "item", "namedItem"]),
    some(
        "window.screen",
        &[
            "pixelDepth",
            "colorDepth",
            "width",
            "height",
            "availWidth",
            "availHeight",
            "availTop",
            "availLeft",
            "orientation",
            "isExtended",
        ],
    ),
    some("Keyboard", &["getLayoutMap"]),
    // Sensors.
    all("DeviceMotionEvent"),
    all("DeviceOrientationEvent"),
    some("Sensor", &["start", "activated", "hasReading", "timestamp"]),
    some("Accelerometer", &["x", "y", "z"]),
    some("Gyroscope", &["x", "y", "z"]),
    some("OrientationSensor", &["quaternion", "populateMatrix"]),
    // Permissions, clipboard, credentials, attached devices.
    some("Permissions", &["query"]),
    some("window.Notification", &["permission", "requestPermission"]),
    some("Clipboard", &["read", "readText", "write", "writeText"]),
    some("CredentialsContainer", &["get", "create", "store", "preventSilentAccess"]),
    some("Bluetooth", DEVICES),
    some("USB", DEVICES),
    some("HID", DEVICES),
    some("Serial", DEVICES),
    // Time and place.
    some(
        "Performance",
        &[
            "now",
            "getEntries",
            "getEntriesByName",
            "getEntriesByType",
            "memory",
            "timing",
            "navigation",
            "timeOrigin",
            "measureUserAgentSpecificMemory",
        ],
    ),
    some("window.Intl.DateTimeFormat.prototype", &["resolvedOptions"]),
    some("window.Date.prototype", &["getTimezoneOffset"]),
    some("Geolocation", &["getCurrentPosition", "watchPosition"]),
    // Sending.
    some("XMLHttpRequest", &["open", "send", "setRequestHeader"]),
    some(
        "window",
        &[
            "name",
            "localStorage",
            "sessionStorage",
            "indexedDB",
            "caches",
            "innerWidth",
            "innerHeight",
            "outerWidth",
            "outerHeight",
            "screenX",
            "screenY",
            "devicePixelRatio",
            "matchMedia",
            "queryLocalFonts",
            "fetch",
            "WebSocket",
            "EventSource",
            "Worker",
            "SharedWorker",
            "RTCPeerConnection",
            "OfflineAudioContext",
            "AudioContext",
        ],
    ),
];
