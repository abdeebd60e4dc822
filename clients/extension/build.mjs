// Builds dist/, or with --tests the unit tests into build/test/.
import { build } from "esbuild";
import { Script } from "node:vm";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { manifest } from "./manifest.mjs";

const here = new URL(".", import.meta.url).pathname;
const { version: tldts } = JSON.parse(await readFile(`${here}node_modules/tldts/package.json`, "utf8"));
const define = { TLDTS_VERSION: JSON.stringify(tldts) };
const shared = { define, absWorkingDir: here, bundle: true, target: "es2023", charset: "utf8", legalComments: "none", logLevel: "warning" };

/** The hooks of workers on Firefox, minified: a function's call. */
const prefix = async () => {
  const { outputFiles: [file] } = await build({
    ...shared, entryPoints: ["src/main/prefix.ts"], format: "iife", platform: "browser", charset: "ascii", minify: true, write: false,
  });
  return file.text;
};

/**
 * Goes before the first line of a script that it must not change: one line of ASCII without a directive of its own, that
 * runs once in a worker and throws nothing. Line breaks that are left are in template literals.
 */
const oneLine = (bundle) => {
  const [directive, start] = ['"use strict";', "(()=>{"];
  if (!bundle.startsWith(directive + start)) throw new Error("the bundle of the prefix does not begin as expected");
  const body = `${start}${directive}${bundle.slice(directive.length + start.length).trimEnd()}`.replaceAll("\n", "\\n");
  const line = `try{self.dispatchEvent(new Event("@@SONDE_ONCE@@",{cancelable:true}))&&${body.replace(/;$/, "")}}catch{}`;
  if (/[^\x20-\x7e]/.test(line)) throw new Error("the prefix is not one line of ASCII");
  new Script(line);
  return line;
};

if (process.argv.includes("--tests")) {
  const names = (await readdir(`${here}tests`)).filter((name) => name.endsWith(".test.ts"));
  await rm(`${here}build/test`, { recursive: true, force: true });
  await build({ ...shared, entryPoints: names.map((name) => `tests/${name}`), outdir: "build/test", platform: "node", format: "esm", outExtension: { ".js": ".mjs" } });
} else {
  const { version } = JSON.parse(await readFile(`${here}package.json`, "utf8"));
  await rm(`${here}dist`, { recursive: true, force: true });
  await mkdir(`${here}dist`);
  const entries = { main: "src/main/main.ts", worker: "src/main/worker.ts", stealth: "src/main/stealth.ts", isolated: "src/isolated.ts", exported: "src/exported/exported.ts", background: "src/background/background.ts" };
  await build({ ...shared, entryPoints: entries, outdir: "dist", format: "iife", platform: "browser" });
  await writeFile(`${here}dist/prefix.js`, oneLine(await prefix()));
  await writeFile(`${here}dist/manifest.json`, `${JSON.stringify(manifest(version), null, 2)}\n`);
}
