// The isolated world where it holds the hooks too: capture mode `exported`.
//
// The hooks of a document are those of the topmost document above it of its origin: what is exported from an isolated
// world dies with its document, and pages keep functions of frames that they have removed.
import { INLINED } from "../config";
import type { ExportedConfig } from "../config";
import { adopted, opened, take, watchRefusals } from "../frame";
import { Hooks } from "../main/realm";
import { Sink } from "../main/sink";
import { looks } from "../main/serialize";
import { Shared } from "../main/shared";
import { offerInstrumentJS } from "../main/testing";
import { Exported } from "./functions";
import { isOpaque } from "./opaque";

/** Windows above a frame that are asked. */
const ANCESTORS = 64;

const above = (): Window[] => {
  const all: Window[] = [];
  for (let at: Window = window; at.parent !== at && all.length < ANCESTORS; at = at.parent) all.unshift(at.parent);
  return all;
};

const install = (config: ExportedConfig): void => {
  looks.run = isOpaque;
  const shared = new Shared(config.secret, config.limit);
  const primitive = new Exported(shared.originals);
  const hooks = new Hooks(window, shared, config, primitive);
  const target = new EventTarget();
  take(target);
  const sink = new Sink(shared, window);
  sink.connect(target);
  if ((config.javascript || config.cookies) && !location.hash.includes(config.firstPage)) hooks.hook(window, sink, false);
  primitive.begun();
  if (config.javascript && config.testing) offerInstrumentJS(window, hooks, shared, primitive);
};

const config = JSON.parse(INLINED) as ExportedConfig;
if (config.refusals) watchRefusals();
if (!adopted(config.secret, [...above(), window.opener as Window | null])) install(config);
opened();
