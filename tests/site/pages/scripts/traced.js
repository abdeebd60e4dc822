// Traces a call out of a script with a URL of its own.
window.tracedElsewhere = function tracedElsewhere() {
  const text = new TextEncoder();
  probe.traced("TextEncoder.encoding", "encoding", text, function there(on) { return on.encoding; });
};
