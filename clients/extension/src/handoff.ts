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
