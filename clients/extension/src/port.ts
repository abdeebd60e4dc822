// The messages between the isolated world of a frame and the background.

/** Whether the channel to the page's world is there, and the window's outer width and height in CSS pixels. */
export const FROM_STATE = 0;
/** Ordinal of the batch's first call in the document, and the batch. */
export const FROM_BATCH = 1;
/** All that the frame had is sent: the serial of the flush. */
export const FROM_FLUSHED = 2;

/** A request that the document's policy refused before it began: its URL, the directive, milliseconds since the epoch. */
export const FROM_REFUSED = 3;

/** It listens to the workers it was told of: the serial of the request. */
export const FROM_LISTENING = 4;
/** What a worker said: the name of its channel, and the message. */
export const FROM_WORKER = 5;

export type FromFrame =
  | readonly [typeof FROM_STATE, boolean, number, number]
  | readonly [typeof FROM_BATCH, number, string]
  | readonly [typeof FROM_FLUSHED, number]
  | readonly [typeof FROM_REFUSED, string, string, number]
  | readonly [typeof FROM_LISTENING, number]
  | readonly [typeof FROM_WORKER, string, string];

/** Asks for a flush: its serial, and the milliseconds that workers have to answer. */
export const TO_FLUSH = 0;
/** Asks to listen to workers: its serial, and the names of their channels. */
export const TO_LISTEN = 1;

export type ToFrame =
  | readonly [typeof TO_FLUSH, number, number]
  | readonly [typeof TO_LISTEN, number, readonly string[]];
