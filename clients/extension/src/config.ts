// What the browser-service inlines into its copy of the built files, in place of the marker string.

/** One instrumented object, after the settings language is expanded (proto/src/js_settings). */
export interface Target {
  /** The expression, as `window.navigator` or `window['Storage'].prototype`. */
  readonly object: string;
  /** What its symbols begin with. */
  readonly instrumentedName: string;
  /** The property names that lead from the global object to it. */
  readonly path: readonly string[];
  /** A user named it: a top-level document without it fails the visit. */
  readonly required: boolean;
  readonly logSettings: LogSettings;
}

export interface LogSettings {
  /** Empty: every own and inherited property. Null: none. */
  readonly propertiesToInstrument: readonly string[] | null;
  readonly nonExistingPropertiesToInstrument: readonly string[];
  readonly excludedProperties: readonly string[];
  readonly logCallStack: boolean;
  readonly logFunctionsAsStrings: boolean;
  readonly logFunctionGets: boolean;
  readonly preventSets: boolean;
  readonly recursive: boolean;
  /** Levels below the object, when recursive. */
  readonly depth: number;
}

export interface MainConfig {
  readonly secret: string;
  /** What the address of a visit's first page ends with: nothing runs in it that could be recorded. */
  readonly firstPage: string;
  readonly javascript: boolean;
  readonly cookies: boolean;
  readonly targets: readonly Target[];
  /** Calls recorded of each symbol in each document; 0: all. */
  readonly limit: number;
  /** Pages have `window.instrumentJS`. */
  readonly testing: boolean;
}

export interface WorkerConfig {
  readonly targets: readonly Target[];
  readonly limit: number;
  /** Name of the global function that takes records out; it is taken away at once. */
  readonly binding: string;
}

export interface PrefixConfig {
  readonly targets: readonly Target[];
  readonly limit: number;
}

export interface StealthConfig {
  readonly targets: readonly Target[];
  readonly limit: number;
  /** Functions of one document. */
  readonly most: number;
}

export interface IsolatedConfig {
  readonly secret: string;
  /** Tells of requests that the document's policy refused: where no one else does. */
  readonly refusals: boolean;
}

/** Of the isolated world that holds the hooks, too. */
export interface ExportedConfig extends MainConfig, IsolatedConfig {}

export interface BackgroundConfig {
  readonly port: number;
  readonly token: string;
  readonly javascript: boolean;
  readonly cookies: boolean;
  readonly navigations: boolean;
  /** The extension records the network (requests, responses, look-ups, what the cookie jar does). */
  readonly network: boolean;
  readonly limit: number;
  /** What is put before the scripts of workers, with its own configuration inlined; none: workers are another's. */
  readonly prefix: string | undefined;
}

/** Replaced by the browser-service; appears once in each built file. */
export const INLINED = "@@SONDE_CONFIG@@";

// In the prefix, replaced for each worker by the background.
/** Name of the channel. */
export const CHANNEL = "@@SONDE_CHANNEL@@";
/** Name of the event by which a prefix asks whether another ran in its worker before. */
export const ONCE = "@@SONDE_ONCE@@";
