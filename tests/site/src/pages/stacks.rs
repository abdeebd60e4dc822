//! Where calls and requests come from, each told by `Error.stack` at the very same place. M13, M16.

use super::group;

group! { "stacks":
    "stack-functions";
    "stack-scripts";
    "stack-later";
    "stack-eval";
    "stack-frames";
    "stack-deep";
    "stack-requests";
}
