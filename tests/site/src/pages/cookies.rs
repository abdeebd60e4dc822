//! Set-Cookie headers in their variants, and cookies that scripts write.

use super::group;

group! { "cookies":
    "cookie-plain";
    "cookie-http-only";
    "cookie-secure";
    "cookie-same-site";
    "cookie-max-age";
    "cookie-expires";
    "cookie-deleted";
    "cookie-overwritten";
    "cookie-domain";
    "cookie-path";
    "cookie-prefixes";
    "cookie-refused";
    "cookie-overlong";
    "cookie-odd";
    "cookie-many";
    "cookie-partitioned";
    "cookie-third-party";
    "cookie-credentials-omitted";
    "cookie-in-kinds";
    "cookie-of-document" until "end";
    "cookie-document-write";
    "cookie-document-delete";
    "cookie-document-odd";
    "cookie-document-frame";
    "cookie-store";
}
