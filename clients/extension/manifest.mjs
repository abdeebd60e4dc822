// The manifest of the built extension. The key fixes Chromium's id of it; its private half is thrown away.
export const manifest = (version) => ({
  manifest_version: 3,
  name: "Sonde",
  version,
  description: "Streams instrumentation records to the browser-service that runs this browser.",
  key: "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAiJDPxLYgM+I6Xn5pSjUp7KhkfGdvDdpclujHhFf2JvS5ev3QFWLeK4PrzCgjIaB3rF8R5OIl2LYBSnm4vfNSeGy/YikG9St5K2qRlJwp2OQDZ70lmrU68MqccKX/KEyzOm5qyXspJbHBw8Nyel3VV3y2q7B2lk620fjvU+5P8L/IS47K9SwCk9E2k/cZFYcyUUl6D5ir7uAVOsxz9ykref2x2V++/CYjjZVRVN5RMDmNS7w/pdx8I5fSku7ZeLpIBhFD2ZB2qu65VcSFMb8fdVcPhAxlinS3ctooGdDJI0wPgQEE/rIMQiN9bFEV2XoRhLuwV5vGs90D/ovOMKCA1wIDAQAB",
  incognito: "spanning",
  // Those of the second line are for Firefox; Chromium ignores what it does not know, and listens to no requests.
  permissions: [
    "webNavigation", "tabs", "storage",
    "cookies", "dns", "webRequest", "webRequestBlocking", "webRequestFilterResponse", "webRequestFilterResponse.serviceWorkerScript",
  ],
  host_permissions: ["<all_urls>"],
  background: { service_worker: "background.js", scripts: ["background.js"] },
  content_security_policy: { extension_pages: "script-src 'self'; connect-src *" },
  content_scripts: [
    content("main.js", "MAIN"),
    content("isolated.js", "ISOLATED"),
  ],
  browser_specific_settings: { gecko: { id: "extension@sonde.invalid", strict_min_version: "128.0" } },
});

const content = (file, world) => ({
  js: [file],
  world,
  matches: ["<all_urls>"],
  run_at: "document_start",
  all_frames: true,
  match_about_blank: true,
  match_origin_as_fallback: true,
});
