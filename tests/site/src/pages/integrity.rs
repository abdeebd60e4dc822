//! Pages of the integrity suite: hostile to whoever watches them. Each is about one line of the requirements; what it
//! did it reports as every page does, and what it found out as a note of JSON. Another suite visits them than the
//! corpus: `sonde_tests::integrity`.

use super::group;

group! { "integrity":
    "integrity-lies";
    "integrity-realms";
    "integrity-unseen";
    "integrity-code";
    "integrity-vectors";
    "integrity-environment";
    "integrity-strings";
    "integrity-arguments";
    "integrity-poisoned";
    "integrity-late";
    "integrity-bodies";
    "integrity-steady" until "end";
    "integrity-end";
}
