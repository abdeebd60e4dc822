// A frame's way to the background: takes batches from whoever records in it, and sends them on. Pages cannot reach it.
import { Ears } from "./ears";
import { DATA, FLUSH, adoptEvent } from "./handoff";
import { FROM_BATCH, FROM_FLUSHED, FROM_LISTENING, FROM_REFUSED, FROM_STATE, FROM_WORKER, TO_LISTEN } from "./port";
import type { FromFrame, ToFrame } from "./port";

const queue: FromFrame[] = [];
let port: chrome.runtime.Port | null = null;
let channel: EventTarget | null = null;
let ordinal = 0;

const state = (): FromFrame => [FROM_STATE, channel !== null, window.outerWidth, window.outerHeight];

const drain = (): void => {
  while (queue.length > 0) {
    connect().postMessage(queue[0] as FromFrame);
    queue.shift();
  }
};

const retry = new MessageChannel();
retry.port2.onmessage = () => tryDrain();

/** The end of the stack has a name of its own in each browser. */
const isExhausted = (error: unknown): boolean => error instanceof Error && /^(?:RangeError|InternalError)$/.test(error.name);

const tryDrain = (): void => {
  try {
    drain();
  } catch (error) {
    // At the end of the stack later will do; an extension that is gone takes nothing any more.
    if (chrome.runtime?.id === undefined) queue.length = 0;
    else if (isExhausted(error)) retry.port1.postMessage(0);
    else reconnect();
  }
};

const reconnect = (): void => {
  port = null;
  try {
    drain();
  } catch {
    queue.length = 0;
  }
};

const say = (message: FromFrame): void => {
  queue.push(message);
  tryDrain();
};

const ears = new Ears((name, message) => say([FROM_WORKER, name, message]));

const answer = async (message: ToFrame): Promise<void> => {
  if (message[0] === TO_LISTEN) {
    ears.listen(message[2]);
    return say([FROM_LISTENING, message[1]]);
  }
  channel?.dispatchEvent(new CustomEvent(FLUSH));
  await ears.flush(message[2]);
  say([FROM_FLUSHED, message[1]]);
};

const connect = (): chrome.runtime.Port => {
  if (port !== null) return port;
  const fresh = chrome.runtime.connect({ name: "frame" });
  fresh.onDisconnect.addListener(() => {
    if (port === fresh) port = null;
  });
  fresh.onMessage.addListener((message: ToFrame) => void answer(message));
  port = fresh;
  fresh.postMessage(state());
  return fresh;
};

/** The calls of `serial \n base,records,strings,dropped,calls \n ...`. */
const callsOf = (batch: string): number => {
  const start = batch.indexOf("\n") + 1;
  const end = batch.indexOf("\n", start);
  return Number(batch.slice(batch.lastIndexOf(",", end) + 1, end));
};

/** Batches come as events at this target; only one of them. */
export const take = (target: EventTarget): void => {
  let last = 0;
  target.addEventListener(DATA, (event) => {
    const text = (event as CustomEvent<string>).detail;
    const serial = Number.parseInt(text, 10);
    if (serial > last) {
      queue.push([FROM_BATCH, ordinal, text.slice(text.indexOf("\n") + 1)]);
      ordinal += callsOf(text);
      last = serial;
    }
    event.preventDefault();
    tryDrain();
  });
  channel = target;
};

/** Says whether there is such a target. */
export const opened = (): void => {
  if (port === null) connect();
  else port.postMessage(state());
};

/** Whether the hooks of one of these neighbours have this realm, and record it. */
export const adopted = (secret: string, neighbours: readonly (Window | null)[]): boolean => {
  const target = new EventTarget();
  take(target);
  for (const neighbour of neighbours) {
    if (neighbour === null || neighbour === window || Object.getPrototypeOf(neighbour) === null) continue;
    const init = { view: window, relatedTarget: target, cancelable: true };
    if (!neighbour.dispatchEvent(new MouseEvent(adoptEvent(secret), init))) return true;
  }
  channel = null;
  return false;
};

export const isOpen = (): boolean => channel !== null;

/** Tells of requests that the policy of the document refuses. */
export const watchRefusals = (): void => {
  window.addEventListener("securitypolicyviolation", (event) => {
    if (!event.isTrusted || event.disposition !== "enforce" || !/^(?:https?|wss?):/.test(event.blockedURI)) return;
    say([FROM_REFUSED, event.blockedURI, event.effectiveDirective, Date.now()]);
  }, true);
};
