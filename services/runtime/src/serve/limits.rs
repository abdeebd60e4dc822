//! Every bound of the gRPC transport, in one place; client channels use the same.

use std::time::Duration;

/// Streams per connection. Unset, tonic would remove hyper's cap.
pub const CONCURRENT_STREAMS: u32 = 1024;
/// Connections per listener; further ones wait in the backlog.
pub const CONNECTIONS: usize = 1024;
/// The default of 64 KiB would cap a link of 2 ms at some 7,000 events per second.
pub const STREAM_WINDOW: u32 = 1 << 20;
pub const CONNECTION_WINDOW: u32 = 4 << 20;
pub const FRAME_BYTES: u32 = 256 << 10;
/// All headers of one request.
pub const HEADER_BYTES: u32 = 16 << 10;
/// One message, either way. Set it on every service and client (`max_decoding_message_size`): tonic's transport has
/// no such limit of its own, and its codec defaults to 4 MiB.
pub const MESSAGE_BYTES: usize = 16 << 20;
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// From accept to the end of the HTTP/2 preface.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams that a client reset and we have not yet dropped (rapid reset).
pub const PENDING_RESETS: usize = 64;
/// Streams that we reset for a client's errors before we close its connection.
pub const ERROR_RESETS: usize = 1024;
/// How long closed connections may take to be dropped after a hard stop.
pub const HARD_STOP: Duration = Duration::from_secs(2);
