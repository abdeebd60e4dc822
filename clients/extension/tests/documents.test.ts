import assert from "node:assert/strict";
import { test } from "node:test";
import { Documents } from "../src/background/documents";

const at = (requestId: string, url: string, frameId = 0) => ({ requestId, tabId: 1, frameId, url });

/** M14: a navigation told as given up goes on when its request does. */
test("a request that ends as a document was no failed navigation, redirected or not", async () => {
  const documents = new Documents();
  documents.begun(at("1", "http://a/"));
  const early = documents.goesOn("1/0", "http://a/#part");
  documents.begun(at("1", "http://b/"));
  documents.completed("1", 200, [{ name: "Content-Type", value: "text/html" }]);
  assert.equal(await early, true);
  assert.equal(await documents.goesOn("1/0", "http://b/"), true);
  assert.equal(documents.goesOn("1/2", "http://b/"), undefined, "another frame");
});

test("what is given up, has no content or is downloaded does not become a document", async () => {
  const documents = new Documents();
  const end = async (id: string, how: () => void): Promise<boolean | undefined> => {
    documents.begun(at(id, `http://a/${id}`));
    how();
    return documents.goesOn("1/0", `http://a/${id}`);
  };
  assert.equal(await end("1", () => documents.failed("1", "NS_BINDING_ABORTED")), false);
  assert.equal(await end("2", () => documents.completed("2", 204, [])), false);
  assert.equal(await end("4", () => documents.failed("4", "NS_ERROR_CONNECTION_REFUSED")), true, "an error page");
  const header = { name: "content-disposition", value: "attachment; filename=x" };
  assert.equal(await end("3", () => documents.completed("3", 200, [header])), false);
});
