//! The DevTools events as we read them: every field may be missing, so that a browser that renames one
//! costs that field and not the event.

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::chromium::cdp::RawJson;

/// JSON text that is decoded when its shape is known.
pub trait Decode {
    fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T>;
}

impl Decode for RawJson {
    fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        self.decode()
    }
}

impl Decode for str {
    fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self)
    }
}

impl Decode for String {
    fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self)
    }
}

/// Headers in the order they came; a name may come more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers(pub Vec<(String, String)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> String {
        serde_json::to_string(&self.0).expect("strings are serialisable")
    }

    /// The lines after the first of an HTTP/1 message's head.
    pub fn of_text(text: &str) -> Self {
        let lines = text.lines().skip(1).map_while(|line| line.split_once(':'));
        Self(lines.map(|(n, v)| (n.to_owned(), v.trim().to_owned())).collect())
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let value = match value {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    // The browser joins repeated headers by line breaks, which no value can hold.
                    pairs.extend(value.split('\n').map(|v| (name.clone(), v.to_owned())));
                }
                Ok(Headers(pairs))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Headers, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Headers::default())
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

macro_rules! event {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident : $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(in crate::engine::chromium) struct $name { $($(#[$attr])* pub $field: $type),* }
    };
}

event!(RequestWillBeSent {
    request_id: String,
    #[serde(rename = "documentURL")]
    document_url: String,
    request: Request,
    timestamp: f64,
    wall_time: f64,
    initiator: Initiator,
    redirect_has_extra_info: Option<bool>,
    redirect_response: Option<Response>,
    #[serde(rename = "type")]
    kind: String,
    frame_id: Option<String>,
});

event!(Request {
    url: String,
    url_fragment: Option<String>,
    method: String,
    headers: Headers,
    post_data: Option<String>,
    has_post_data: Option<bool>,
    post_data_entries: Vec<PostDataEntry>,
    initial_priority: Option<String>,
});

event!(PostDataEntry { bytes: Option<String> });

event!(Initiator {
    #[serde(rename = "type")]
    kind: String,
    stack: Option<StackTrace>,
    url: Option<String>,
    line_number: Option<f64>,
    column_number: Option<f64>,
    request_id: Option<String>,
});

event!(StackTrace {
    description: Option<String>,
    call_frames: Vec<CallFrame>,
    parent: Option<Box<StackTrace>>,
});

event!(CallFrame {
    function_name: String,
    script_id: String,
    url: String,
    line_number: i64,
    column_number: i64,
});

event!(Response {
    url: String,
    status: i64,
    status_text: String,
    headers: Headers,
    headers_text: Option<String>,
    mime_type: Option<String>,
    request_headers: Option<Headers>,
    request_headers_text: Option<String>,
    #[serde(rename = "remoteIPAddress")]
    remote_ip_address: Option<String>,
    remote_port: Option<i64>,
    from_disk_cache: bool,
    from_service_worker: bool,
    from_prefetch_cache: bool,
    service_worker_response_source: Option<String>,
    timing: Option<Box<RawValue>>,
    protocol: Option<String>,
    security_details: Option<Value>,
});

event!(RequestExtra {
    request_id: String,
    headers: Headers,
    connect_timing: ConnectTiming,
    associated_cookies: Vec<AssociatedCookie>,
});

event!(AssociatedCookie { blocked_reasons: Vec<String>, cookie: NamedCookie });

event!(NamedCookie { name: String, domain: String, path: String });

event!(ConnectTiming { request_time: f64 });

event!(ResponseExtra {
    request_id: String,
    blocked_cookies: Vec<BlockedSetCookie>,
    headers: Headers,
    headers_text: Option<String>,
    status_code: i64,
    cookie_partition_key: Option<Value>,
});

event!(BlockedSetCookie { blocked_reasons: Vec<String>, cookie_line: String });

event!(ResponseReceived {
    request_id: String,
    timestamp: f64,
    #[serde(rename = "type")]
    kind: String,
    response: Response,
    has_extra_info: Option<bool>,
});

event!(DataReceived { request_id: String, data_length: u64, encoded_data_length: i64 });

event!(LoadingFinished { request_id: String, timestamp: f64, encoded_data_length: f64 });

event!(LoadingFailed {
    request_id: String,
    timestamp: f64,
    error_text: String,
    canceled: Option<bool>,
    blocked_reason: Option<String>,
    cors_error_status: Option<CorsError>,
});

event!(CorsError { cors_error: String });

event!(OfRequest { request_id: String });

event!(SocketCreated { request_id: String, url: String, initiator: Initiator });

event!(SocketHandshakeSent { request_id: String, timestamp: f64, wall_time: f64, request: Request });

event!(SocketHandshakeReceived { request_id: String, timestamp: f64, response: Response });

event!(SocketFrame { request_id: String, timestamp: f64, response: Frame });

event!(Frame { opcode: f64, payload_data: String });

event!(SocketError { request_id: String, timestamp: f64, error_message: String });

event!(SocketClosed { request_id: String, timestamp: f64 });

event!(EventSourceMessage { request_id: String, timestamp: f64, data: String });

event!(FrameNavigated { frame: NavigatedFrame });

event!(NavigatedFrame { id: String, parent_id: Option<String>, url: String, url_fragment: Option<String> });

event!(NavigatedWithin { frame_id: String, url: String });

event!(FrameAttached { frame_id: String, parent_frame_id: String });

impl Response {
    /// What the wire told of a response that the page did not wait for.
    pub fn from_extra(extra: &ResponseExtra, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            status: extra.status_code,
            headers: extra.headers.clone(),
            headers_text: extra.headers_text.clone(),
            ..Self::default()
        }
    }
}
