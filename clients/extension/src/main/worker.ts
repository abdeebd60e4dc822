// A worker's world on Chromium: the browser-service runs this in every worker before the worker's first statement, with
// a function of its own that takes text out.
import { INLINED } from "../config";
import type { WorkerConfig } from "../config";
import { MessageChannelOf, port1Of, port2Of, postMessage, setOnMessage } from "./primordials";
import { hookScope } from "./scope";
import { TaskSink } from "./tasks";

const start = ({ targets, limit, binding }: WorkerConfig): void => {
  const holder = globalThis as unknown as Record<string, (text: string) => void>;
  const send = holder[binding] as (text: string) => void;
  delete holder[binding];
  const instrument = hookScope({ targets, limit, sink: new TaskSink((text) => send(text), false), ends: false });
  // Chromium adds some interfaces (GPU, StorageManager, ...) only when the worker's script is about to run, and there is
  // no place to stand between the two: their members are hooked with the first task after that script.
  const later = new MessageChannelOf();
  setOnMessage(port2Of(later), () => {
    setOnMessage(port2Of(later), null);
    instrument();
  });
  postMessage(port1Of(later), 0);
  // Says that it is there.
  send("");
};

start(JSON.parse(INLINED) as WorkerConfig);
