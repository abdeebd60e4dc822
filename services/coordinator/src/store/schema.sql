CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;
INSERT INTO meta VALUES ('fence', 0);

CREATE TABLE crawls (
  key INTEGER PRIMARY KEY,
  crawl_id TEXT NOT NULL UNIQUE,
  request_id TEXT UNIQUE,
  submitted BLOB NOT NULL,
  spec BLOB NOT NULL,
  kind INTEGER NOT NULL,
  state INTEGER NOT NULL,
  reason TEXT NOT NULL DEFAULT '',
  sealed INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  ended_at INTEGER,
  last_sequence INTEGER NOT NULL DEFAULT 0,
  last_no INTEGER NOT NULL DEFAULT 0,
  streak INTEGER NOT NULL DEFAULT 0,
  total INTEGER NOT NULL DEFAULT 0,
  queued INTEGER NOT NULL DEFAULT 0,
  running INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  o1 INTEGER NOT NULL DEFAULT 0, o2 INTEGER NOT NULL DEFAULT 0, o3 INTEGER NOT NULL DEFAULT 0,
  o4 INTEGER NOT NULL DEFAULT 0, o5 INTEGER NOT NULL DEFAULT 0, o6 INTEGER NOT NULL DEFAULT 0,
  o7 INTEGER NOT NULL DEFAULT 0, o8 INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX crawls_active ON crawls (key) WHERE state <> 4;

-- state: 1 queued, 2 running, 3 ended; 4 and 5: has its outcome, which storage has not confirmed yet, and counts as
-- queued (4) or running (5) until then.
CREATE TABLE visits (
  crawl INTEGER NOT NULL,
  visit_no INTEGER NOT NULL,
  url TEXT NOT NULL,
  site TEXT NOT NULL,
  site_rank INTEGER,
  commands BLOB,
  state INTEGER NOT NULL,
  not_before INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  retries INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0,
  crashed_on TEXT NOT NULL DEFAULT '',
  fresh INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  outcome INTEGER,
  failure BLOB,
  visit_id INTEGER,
  PRIMARY KEY (crawl, visit_no)
) WITHOUT ROWID, STRICT;
CREATE INDEX visits_queued ON visits (crawl, not_before, visit_no, site) WHERE state = 1;

CREATE TABLE attempts (
  visit_id INTEGER PRIMARY KEY,
  crawl INTEGER NOT NULL,
  visit_no INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  fence INTEGER NOT NULL UNIQUE,
  browser_id INTEGER NOT NULL,
  endpoint TEXT NOT NULL,
  instance_id TEXT NOT NULL,
  leased_at INTEGER NOT NULL,
  result BLOB
) STRICT;
CREATE INDEX attempts_of ON attempts (crawl, visit_no);
CREATE INDEX attempts_running ON attempts (fence) WHERE result IS NULL;

CREATE TABLE events (
  crawl INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (crawl, sequence)
) WITHOUT ROWID, STRICT;

CREATE TABLE slots (
  endpoint TEXT NOT NULL,
  slot INTEGER NOT NULL,
  browser_id INTEGER NOT NULL UNIQUE,
  started BLOB,
  PRIMARY KEY (endpoint, slot)
) WITHOUT ROWID, STRICT;

-- Rows for storage that it has not confirmed. crawl, visit_no and event are those of outcomes.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  ledger BLOB NOT NULL,
  crawl INTEGER,
  visit_no INTEGER,
  event BLOB
) STRICT;

-- Last end of a visit by site, for crawls that wait between visits.
CREATE TABLE site_ends (site TEXT PRIMARY KEY, ended_at INTEGER NOT NULL) WITHOUT ROWID, STRICT;
