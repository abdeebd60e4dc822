//! WebSockets and EventSources.

use super::group;

group! { "sockets":
    "ws-text";
    "ws-binary";
    "ws-large";
    "ws-many";
    "ws-close-codes";
    "ws-closed-by-server";
    "ws-protocols";
    "ws-cross-site";
    "ws-refused";
    "ws-not-a-socket";
    "ws-left-open" until "end";
    "es-messages";
    "es-reconnects";
    "es-cross-site";
    "es-not-found";
    "es-wrong-type";
}
