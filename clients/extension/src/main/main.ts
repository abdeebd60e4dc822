// The page's world: hooks this document's realm, and offers the isolated world a channel.
import { INLINED } from "../config";
import type { MainConfig } from "../config";
import { helloEvent, hookedKey, offerEvent } from "../handoff";
import { offerInstrumentJS } from "./testing";
import { EventTargetOf, MouseEventOf, addListener, dispatch, indexOf, prototypeOf, stopImmediate } from "./primordials";
import { Hooks } from "./realm";
import { Shared, askNeighbours } from "./shared";
import { Sink } from "./sink";
import { wrapped } from "./wrapped";

const install = (config: MainConfig): void => {
  const { secret } = config;
  const shared = askNeighbours(window, secret) ?? new Shared(secret, config.limit);
  if (shared.realms.get(prototypeOf(window) as object) !== undefined) return;
  const primitive = wrapped(shared.originals);
  const hooks = new Hooks(window, shared, config, primitive);
  const sink = new Sink(shared, window);
  if (indexOf(location.hash, config.firstPage) < 0) hooks.hook(window, sink, false);
  if (config.javascript && config.testing) offerInstrumentJS(window, hooks, shared, primitive);
  const target = new EventTargetOf();
  const offer = (): boolean => {
    const init = { __proto__: null, relatedTarget: target, cancelable: true } as MouseEventInit;
    const taken = !dispatch(window, new MouseEventOf(offerEvent(secret), init));
    if (taken) sink.connect(target);
    return taken;
  };
  if (offer()) return;
  addListener(window, helloEvent(secret), (event: Event) => {
    stopImmediate(event);
    if (!sink.open) offer();
  }, true);
};

const config = JSON.parse(INLINED) as MainConfig;
// A realm that a neighbour hooked from outside may have been changed by page script since; its hooks stay as they are.
if (!(location.reload as unknown as Record<string, boolean>)[hookedKey(config.secret)]) install(config);
