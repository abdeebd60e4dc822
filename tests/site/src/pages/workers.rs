//! Workers of each kind: their scripts, requests and calls.

use super::group;

group! { "workers":
    "worker-classic";
    "worker-module";
    "worker-blob";
    "worker-data";
    "worker-import-scripts";
    "worker-nested";
    "worker-requests";
    "worker-socket";
    "worker-missing";
    "worker-terminated";
    "worker-calls";
    "worker-calls-module";
    "worker-calls-blob";
    "worker-calls-nested";
    "shared-worker";
    "shared-worker-calls";
    "service-worker";
    "service-worker-calls";
    "service-worker-fetch";
    "worklet-audio";
}
