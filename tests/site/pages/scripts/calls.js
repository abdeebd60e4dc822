// A known number of calls, the same on the control page and under attack. It uses no method a page can have replaced.
window.fixtureCalls = () => {
  let i = 0;
  for (i = 0; i < 20; i++) navigator.userAgent;
  for (i = 0; i < 10; i++) navigator.platform;
  for (i = 0; i < 5; i++) screen.colorDepth;
  const canvas = document.createElement("canvas");
  for (i = 0; i < 5; i++) canvas.getContext("2d");
  for (i = 0; i < 5; i++) canvas.toDataURL();
};
window.fixtureReport = '{"calls":{"get window.navigator.userAgent":20,"get window.navigator.platform":10,' +
  '"get window.screen.colorDepth":5,"call HTMLCanvasElement.getContext":5,"call HTMLCanvasElement.toDataURL":5},' +
  '"done":["DONE"]}';
