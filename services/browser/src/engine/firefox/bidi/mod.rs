//! A small WebDriver BiDi client (<https://w3c.github.io/webdriver-bidi/>): one WebSocket to one Firefox.
//!
//! Every call has a deadline, and the end of the connection ends all of them at once. Events go to bounded
//! subscriptions, which count what they lose.

mod connection;
mod error;
mod events;

#[cfg(test)]
mod tests;

pub use connection::{Bidi, connect};
pub use error::BidiError;
pub use events::{Event, Events, Item};
