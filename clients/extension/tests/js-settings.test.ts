import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Ajv } from "ajv";

interface Case {
  readonly name: string;
  readonly settings: unknown;
  readonly valid: boolean;
  /** Wrong in a way that spans items or settings, which no schema can say. */
  readonly beyondSchema?: boolean;
}

const json = (path: string): unknown => JSON.parse(readFileSync(`../../${path}`, "utf8"));

/** M13: proto/tests/js_settings.rs runs the same cases through the validator. */
test("the published schema takes the good settings and refuses the bad ones", () => {
  const validate = new Ajv({ strict: true }).compile(json("docs/js-settings.schema.json") as object);
  const cases = json("proto/tests/data/js-settings-cases.json") as readonly Case[];
  assert.ok(cases.length > 50);
  for (const { name, settings, valid, beyondSchema } of cases) {
    assert.equal(validate(settings), valid || beyondSchema === true, name);
  }
});
