// What the page-world modules take from a document, as far as their pure parts need it.
class Stub {}
const accessor = (prototype: object, ...names: string[]): void => {
  for (const name of names) Object.defineProperty(prototype, name, { configurable: true, get() { throw new TypeError(name); } });
};
class NodeStub { readonly #name = "CANVAS"; get nodeName() { return this.#name; } }
class ElementStub extends NodeStub { get id() { return "i"; } get className() { return "c d"; } }
class UIEventStub {}
class MouseEventStub {}
class DocumentStub {}
class ObserverStub { observe() {} disconnect() {} }
class ChannelStub {}
accessor(UIEventStub.prototype, "view");
accessor(MouseEventStub.prototype, "relatedTarget");
accessor(DocumentStub.prototype, "defaultView");
accessor(ChannelStub.prototype, "port1", "port2");
Object.assign(globalThis, {
  window: Object.defineProperties(new Stub(), { length: { get: () => 0 }, closed: { get: () => false }, parent: { get: () => null } }),
  Node: NodeStub, Element: ElementStub, UIEvent: UIEventStub, MouseEvent: MouseEventStub, Document: DocumentStub,
  MutationObserver: ObserverStub, MessageChannel: ChannelStub,
});
export const canvas = (): object => new ElementStub();
