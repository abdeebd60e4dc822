//! What caches answer, and bodies.

use super::group;

group! { "caches":
    "cache-memory";
    "cache-disk";
    "cache-no-store";
    "cache-revalidated";
    "cache-conditional";
    "cache-modes";
    "cache-vary";
    "cache-storage";
    "cache-bodies";
}
