// The background: puts together frames, navigations, attribution, streams and the connection.
import { INLINED } from "../config";
import type { BackgroundConfig } from "../config";
import type { RelayDown, RelayFlush } from "../gen/sonde/browser/v1/relay_pb";
import { Attribution } from "./attribution";
import type { RunningVisit, Tab } from "./attribution";
import { capabilities } from "./capability";
import { Connection } from "./connection";
import type { Up } from "./connection";
import { Calls, truncation } from "./calls";
import { Frames } from "./frames";
import { Documents } from "./documents";
import { Navigations } from "./navigations";
import { Network } from "./network/network";
import { PUBLIC_SUFFIX_LIST } from "./network/site";
import { recordBytes } from "./rows";
import { NO_VISIT, Streams } from "./streams";
import { Windows } from "./windows";
import type { Prefix } from "./workers/prefix";
import { WorkerScripts } from "./workers/scripts";
import { Workers } from "./workers/workers";

const KEEPALIVE_MS = 20_000;

const config = JSON.parse(INLINED) as BackgroundConfig;
const session = crypto.randomUUID();

const hello = (): Up => ({
  case: "hello",
  value: {
    sessionUuid: session,
    extensionVersion: chrome.runtime.getManifest().version,
    publicSuffixList: PUBLIC_SUFFIX_LIST,
    streams: [...streams.states()].map(({ visitId, nextOrdinal, firstUnacked }) => ({
      visitId: BigInt(visitId), nextOrdinal: BigInt(nextOrdinal), firstUnacked: BigInt(firstUnacked),
    })),
  },
} as Up);

const url = `ws://127.0.0.1:${config.port}/relay?token=${encodeURIComponent(config.token)}`;
const connection: Connection = new Connection(url, hello, (message) => receive(message));
const streams = new Streams(
  (batch) => connection.sendBatch(batch),
  (rows, bytes) => recordBytes(Date.now() * 1000, truncation("javascript", undefined, "queue_overflow", rows, bytes, 0, undefined)),
);
const attribution = new Attribution((visit) => void announce(visit));
const calls = new Calls(streams, config);
const frames = new Frames(attribution, calls);
const documents = new Documents();
if (capabilities.restarts && config.navigations) documents.listen();
const navigations = new Navigations(attribution, streams, frames, documents, config.navigations);
const windows = new Windows();
const network = config.network && capabilities.network !== undefined
  ? new Network(capabilities.network, { attribution, streams, send: (message) => connection.send(message), windowOf: (tabId) => windows.of(tabId) })
  : undefined;
network?.listen();
if (network !== undefined) frames.onRefused = (owner, refusal) => network.refused(owner, refusal);

const workers = config.javascript && config.prefix !== undefined && capabilities.network !== undefined ? new Workers(attribution, frames, calls) : undefined;
if (workers !== undefined && config.prefix !== undefined && capabilities.network !== undefined) {
  frames.ofWorkers = workers;
  const capturing = (requestId: string, prefix: Prefix): boolean => network?.put(requestId, prefix) ?? false;
  new WorkerScripts(capabilities.network, config.prefix, { attribution, workers, capturing }).listen();
}

/**
 * Says that a visit's instruments are ready: its first tab is bound. Chromium runs no content script in a top-level
 * about:blank, but holds every navigation back until the content scripts of all extensions are loaded; and a document
 * whose recorders do not show up is counted as silent by the flush.
 */
const announce = async (visit: RunningVisit): Promise<void> => {
  const tabId = visit.firstTab;
  if (tabId === undefined) return;
  const tab: Tab | undefined = await chrome.tabs.get(tabId).catch(() => undefined);
  const windowId = tab?.windowId ?? -1;
  if (tab !== undefined) windows.moved(tabId, windowId);
  attribution.container(visit, tab?.cookieStoreId);
  connection.send({ case: "ready", value: { visitId: BigInt(visit.visitId), tabId: BigInt(tabId), windowId: BigInt(windowId) } } as Up);
};

const receive = (message: RelayDown["message"]): void => {
  switch (message.case) {
    case "welcome": return welcome(message.value.running);
    case "start": return void announce(attribution.start(message.value));
    case "ack": return streams.ack(Number(message.value.visitId), Number(message.value.throughOrdinal));
    case "flush": return void flush(message.value);
    case "end":
      attribution.end(Number(message.value.visitId));
      return streams.drop(Number(message.value.visitId));
    case "bodyAck": return network?.acked(Number(message.value.body), Number(message.value.throughBytes));
    case "bodyStored": return network?.stored(message.value);
    case undefined: return;
  }
};

const welcome = (running: Parameters<Attribution["start"]>[0][]): void => {
  const alive = new Set(running.map((start) => Number(start.visitId)));
  for (const { visitId } of attribution.running) if (!alive.has(visitId)) attribution.end(visitId);
  for (const { visitId } of [...streams.states()]) if (visitId !== NO_VISIT && !alive.has(visitId)) streams.drop(visitId);
  for (const batch of streams.unacknowledged()) connection.sendBatch(batch);
  network?.resend();
  for (const start of running) void announce(attribution.start(start));
};

const flush = async ({ visitId: id, serial, frameTimeoutMs: timeoutMs, bareDocuments }: RelayFlush): Promise<void> => {
  const visitId = Number(id);
  const visit = attribution.visit(visitId);
  if (visit !== undefined) network?.close(visit);
  const silentFrames = visit === undefined ? 0 : await frames.flush(visit, timeoutMs, bareDocuments);
  if (visit !== undefined) workers?.finish(visit);
  await navigations.settled();
  if (visit !== undefined) await network?.finish(visit, timeoutMs);
  const lastOrdinal = BigInt(streams.finish(visitId));
  if (visit !== undefined) visit.sealed = true;
  const missingTargets = [...(visit?.missingTargets ?? [])].map(([object, insecure]) => ({ object, insecure }));
  connection.send({ case: "flushed", value: { visitId: BigInt(visitId), serial, lastOrdinal, silentFrames, missingTargets } } as Up);
};

const { webNavigation } = chrome;
webNavigation.onBeforeNavigate.addListener((details) => {
  if (!attribution.token(details.tabId, details.url)) navigations.started(details);
});
webNavigation.onCommitted.addListener((details) => {
  if (attribution.token(details.tabId, details.url)) return;
  navigations.ended(details, "committed");
  if (details.frameId === 0 && /^https?:/.test(details.url)) frames.expect(details.tabId, details.documentId, details.url);
});
webNavigation.onDOMContentLoaded.addListener(({ documentId }) => frames.parsed(documentId));
webNavigation.onHistoryStateUpdated.addListener((details) => {
  frames.moved(details.tabId, details.frameId, details.documentId, details.url);
  navigations.ended(details, "history_state");
});
webNavigation.onReferenceFragmentUpdated.addListener((details) => {
  frames.moved(details.tabId, details.frameId, details.documentId, details.url);
  if (!attribution.token(details.tabId, details.url)) navigations.ended(details, "fragment");
});
webNavigation.onErrorOccurred.addListener((details) => navigations.ended(details, "failed"));
webNavigation.onCreatedNavigationTarget.addListener(({ sourceTabId, tabId }) => attribution.opened(sourceTabId, tabId));
chrome.tabs.onCreated.addListener((tab) => {
  if (tab.id === undefined) return;
  attribution.opened(tab.openerTabId, tab.id);
  windows.moved(tab.id, tab.windowId);
});
chrome.tabs.onAttached.addListener((tabId, { newWindowId }) => windows.moved(tabId, newWindowId));
chrome.tabs.onRemoved.addListener((tabId) => {
  windows.removed(tabId);
  attribution.removed(tabId);
  navigations.removed(tabId);
  frames.replaced(tabId);
  setTimeout(() => frames.forget(tabId), 5000);
});
chrome.runtime.onConnect.addListener((port) => frames.connected(port));

// Only a call of the extension API keeps both browsers' backgrounds alive; traffic on the socket does not.
setInterval(() => void chrome.storage.session.get("sonde.alive"), KEEPALIVE_MS);
attribution.restore().catch((error: unknown) => console.error("the tabs of the visits could not be read", error)).finally(() => connection.open());
