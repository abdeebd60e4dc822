// The same, out of a module.
export const traced = () => {
  const text = new TextEncoder();
  probe.traced("TextEncoder.encoding", "encoding", text, function inside(on) { return on.encoding; });
};
