// What the browser-service inlines into its copy of the built files, in place of the marker string.

/** One instrumented object, after the settings language is expanded. */
export interface Target {
  /** `window`, `window.x.y` or `window['X'].prototype`. */
  readonly object: string;
  readonly instrumentedName: string;
  readonly logSettings: TargetSettings;
}

export interface TargetSettings {
  /** Empty: every own and inherited property. Null: none. */
  readonly propertiesToInstrument: readonly string[] | null;
  readonly excludedProperties: readonly string[];
  readonly logCallStack: boolean;
  readonly logFunctionsAsStrings: boolean;
}

export interface MainConfig {
  readonly secret: string;
  readonly javascript: boolean;
  readonly cookies: boolean;
  /** Null: `collection_fingerprinting`. */
  readonly targets: readonly Target[] | null;
}

export interface IsolatedConfig {
  readonly secret: string;
  /** Tells of requests that the document's policy refused: where no one else does. */
  readonly refusals: boolean;
}

export interface BackgroundConfig {
  readonly port: number;
  readonly token: string;
  readonly javascript: boolean;
  readonly cookies: boolean;
  readonly navigations: boolean;
  /** The extension records the network (requests, responses, look-ups, what the cookie jar does). */
  readonly network: boolean;
}

/** Replaced by the browser-service; appears once in each built file. */
export const INLINED = "@@SONDE_CONFIG@@";
