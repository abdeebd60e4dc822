//! Calls of each kind of API in the default collection, from each place that scripts run in. I9, I11, I13, I18.

use super::group;

group! { "calls":
    "calls-navigator";
    "calls-navigator-methods";
    "calls-screen";
    "calls-window-name";
    "calls-local-storage";
    "calls-session-storage";
    "calls-document";
    "calls-canvas";
    "calls-canvas-blob";
    "calls-canvas-text";
    "calls-canvas-pixels";
    "calls-canvas-excluded";
    "calls-webgl-context";
    "calls-audio";
    "calls-analyser";
    "calls-rtc";
    "calls-rtc-listeners";
    "calls-many-values";
    "calls-in-event";
    "calls-in-inline-handler";
    "calls-in-timer";
    "calls-in-promise";
    "calls-in-observer";
    "calls-in-message";
    "calls-in-eval";
    "calls-in-module";
    "calls-in-scripts";
    "calls-in-serialisation";
    "calls-by-reflection";
    "calls-by-apply";
    "calls-in-error-handler";
    "calls-in-custom-element";
    "calls-in-generators";
    "calls-before-unload" until "end";
    "calls-in-pagehide" until "end";
    "calls-in-unload" until "end";
    "calls-then-gone" until "end";
    "calls-thousands";
    "calls-after-tampering";
}
