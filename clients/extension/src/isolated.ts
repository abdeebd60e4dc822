// The isolated world beside hooks in the page's own: takes what they record.
import { INLINED } from "./config";
import type { IsolatedConfig } from "./config";
import { adopted, isOpen, opened, take, watchRefusals } from "./frame";
import { helloEvent, offerEvent } from "./handoff";

const { secret, refusals } = JSON.parse(INLINED) as IsolatedConfig;
if (refusals) watchRefusals();

if (adopted(secret, [window.parent, window.opener as Window | null, window.top])) {
  opened();
} else {
  window.addEventListener(offerEvent(secret), (event) => {
    event.stopImmediatePropagation();
    const target = (event as MouseEvent).relatedTarget;
    if (isOpen() || target === null) return;
    take(target);
    event.preventDefault();
    opened();
  }, true);
  window.dispatchEvent(new CustomEvent(helloEvent(secret)));
  if (!isOpen()) opened();
}
