// `collection_fingerprinting`, as OpenWPM defines it.
import type { Target, TargetSettings } from "./config";

const settings = (some: Partial<TargetSettings>): TargetSettings => ({
  propertiesToInstrument: [],
  excludedProperties: [],
  logCallStack: false,
  logFunctionsAsStrings: false,
  ...some,
});

const prototype = (name: string, some: Partial<TargetSettings> = {}): Target => ({
  object: `window['${name}'].prototype`,
  instrumentedName: name,
  logSettings: settings(some),
});

const path = (object: string, some: Partial<TargetSettings> = {}): Target => ({
  object,
  instrumentedName: object,
  logSettings: settings(some),
});

export const fingerprinting = (): readonly Target[] => [
  prototype("ScriptProcessorNode"),
  prototype("GainNode"),
  prototype("AnalyserNode"),
  prototype("OscillatorNode"),
  prototype("OfflineAudioContext"),
  prototype("AudioContext"),
  prototype("RTCPeerConnection"),
  prototype("HTMLCanvasElement"),
  prototype("Storage"),
  path("window.navigator"),
  prototype("CanvasRenderingContext2D", {
    excludedProperties: [
      "quadraticCurveTo", "lineTo", "transform", "globalAlpha", "moveTo", "drawImage", "setTransform", "clearRect",
      "closePath", "beginPath", "canvas", "translate",
    ],
  }),
  path("window", { propertiesToInstrument: ["name", "localStorage", "sessionStorage"] }),
  path("window.document", { propertiesToInstrument: ["cookie", "referrer"], logCallStack: true }),
  path("window.screen", { propertiesToInstrument: ["pixelDepth", "colorDepth"] }),
];
