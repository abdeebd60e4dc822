// The isolated world: takes batches from the page's world and hands them to the background. Pages cannot reach it.
import { INLINED } from "./config";
import type { IsolatedConfig } from "./config";
import { DATA, FLUSH, adoptEvent, helloEvent, offerEvent } from "./handoff";
import { FROM_BATCH, FROM_FLUSHED, FROM_REFUSED, FROM_STATE } from "./port";
import type { FromFrame, ToFrame } from "./port";

const { secret, refusals } = JSON.parse(INLINED) as IsolatedConfig;
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

const tryDrain = (): void => {
  try {
    drain();
  } catch (error) {
    // At the end of the stack later will do; an extension that is gone takes nothing any more.
    if (chrome.runtime?.id === undefined) queue.length = 0;
    else if (error instanceof RangeError) retry.port1.postMessage(0);
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

const connect = (): chrome.runtime.Port => {
  if (port !== null) return port;
  const fresh = chrome.runtime.connect({ name: "frame" });
  fresh.onDisconnect.addListener(() => {
    if (port === fresh) port = null;
  });
  fresh.onMessage.addListener((message: ToFrame) => {
    channel?.dispatchEvent(new CustomEvent(FLUSH));
    queue.push([FROM_FLUSHED, message[0]]);
    tryDrain();
  });
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

const take = (target: EventTarget): void => {
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

const opened = (): void => {
  if (port === null) connect();
  else port.postMessage(state());
};

/** Whether a neighbour's page world had hooked this realm before its document was there. */
const adopted = (): boolean => {
  const target = new EventTarget();
  take(target);
  for (const neighbour of [window.parent, window.opener as Window | null, window.top]) {
    if (neighbour === null || neighbour === window || Object.getPrototypeOf(neighbour) === null) continue;
    const init = { view: window, relatedTarget: target, cancelable: true };
    if (!neighbour.dispatchEvent(new MouseEvent(adoptEvent(secret), init))) return true;
  }
  channel = null;
  return false;
};

if (refusals) {
  window.addEventListener("securitypolicyviolation", (event) => {
    if (!event.isTrusted || event.disposition !== "enforce" || !/^(?:https?|wss?):/.test(event.blockedURI)) return;
    queue.push([FROM_REFUSED, event.blockedURI, event.effectiveDirective, Date.now()]);
    tryDrain();
  }, true);
}

if (adopted()) {
  opened();
} else {
  window.addEventListener(offerEvent(secret), (event) => {
    event.stopImmediatePropagation();
    const target = (event as MouseEvent).relatedTarget;
    if (channel !== null || target === null) return;
    take(target);
    event.preventDefault();
    opened();
  }, true);
  window.dispatchEvent(new CustomEvent(helloEvent(secret)));
  if (channel === null) connect();
}
