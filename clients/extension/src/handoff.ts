// The names by which the two worlds of a document find each other. All of them hold the secret of the browser process.

/** Asks a neighbour's page world for what it shares. */
export const askEvent = (secret: string): string => secret;
/** From the isolated world to a neighbour's page world: `view` is a realm it may have hooked, `relatedTarget` the channel. */
export const adoptEvent = (secret: string): string => `${secret}a`;
/** From the page's world to the isolated one: `relatedTarget` is the channel. */
export const offerEvent = (secret: string): string => `${secret}o`;
/** From the isolated world to the page's one: it is listening now. */
export const helloEvent = (secret: string): string => `${secret}h`;
/** Own key of `location.reload` in a realm that was hooked from outside; inert. */
export const hookedKey = (secret: string): string => `${secret}k`;

/** The event types on the channel. */
export const DATA = "data";
export const FLUSH = "flush";

// The channel between a worker and the isolated worlds of documents: strings that begin with one of these.
/** From a worker: it is there. Its own name, a line break, its URL. */
export const HELLO = "h";
/** From a worker: its name, the serial of the batch, the ordinal of the batch's first call, a line break, the batch. */
export const BATCH = "b";
/** To a worker: its name and the serial of a batch that is taken. */
export const ACK = "a";
/** To all workers: say that you are there, and all that nobody has taken. */
export const ASK = "?";
/** To all workers: hand over what you have, and say so. A word that tells this request from others. */
export const END = "e";
/** From a worker: its name and the word. */
export const END_OF = "d";
