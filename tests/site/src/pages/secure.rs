//! Pages over TLS, and what its certificates refuse.

use super::group;

group! { "secure":
    "tls-resources" over tls;
    "tls-posts" over tls;
    "tls-cookies" over tls;
    "tls-redirects" over tls;
    "tls-to-plain" over tls until "end";
    "tls-refused" over tls;
    "tls-socket" over tls;
    "tls-service-worker" over tls;
    "tls-calls" over tls;
}
