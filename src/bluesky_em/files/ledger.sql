-- Schema and queries of the ledger. A query begins with `-- name:`; its description follows.

-- name: schema
-- Create the tables; `pulse` (the writer's heartbeat) is created last, and shows that all exist.
CREATE TABLE IF NOT EXISTS run (
    uid TEXT PRIMARY KEY,
    complete INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS frame (
    reference TEXT PRIMARY KEY,
    run TEXT NOT NULL, stream TEXT NOT NULL, detector TEXT NOT NULL,
    number INTEGER NOT NULL, row INTEGER NOT NULL,
    server TEXT NOT NULL, path TEXT NOT NULL,
    shape TEXT NOT NULL, dtype TEXT NOT NULL, checksum INTEGER NOT NULL,
    axes TEXT NOT NULL, metadata TEXT NOT NULL, ended REAL NOT NULL,
    count INTEGER NOT NULL, base TEXT NOT NULL, "update" TEXT NOT NULL, "index" TEXT NOT NULL,
    stage TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    captured_at REAL NOT NULL, stored_at REAL, catalogued_at REAL
);
CREATE INDEX IF NOT EXISTS frame_number ON frame (base, number);
CREATE INDEX IF NOT EXISTS frame_stage ON frame (stage);
CREATE INDEX IF NOT EXISTS frame_run ON frame (run);
CREATE INDEX IF NOT EXISTS frame_stored ON frame (stored_at);
CREATE INDEX IF NOT EXISTS frame_server ON frame (server);
CREATE TABLE IF NOT EXISTS spool (
    server TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL, capacity INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS structure (
    path TEXT PRIMARY KEY,
    run TEXT NOT NULL, structure BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS completion (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS catalog (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    identity TEXT NOT NULL, start TEXT NOT NULL, lacks TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS pulse (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    beat REAL NOT NULL, trouble TEXT NOT NULL
);

-- name: has_schema
-- One row if the tables exist.
SELECT 1 FROM sqlite_master WHERE name = 'pulse';

-- name: frames_of_run
-- A run's entries in the order of their events.
SELECT * FROM frame WHERE run = :run ORDER BY rowid;

-- name: blocks
-- The entries of `<base>/<number>` that hold any number from :start to before :stop.
SELECT * FROM frame
WHERE base = :base AND number < :stop AND number >= (
    SELECT COALESCE(MAX(number), 0) FROM frame WHERE base = :base AND number <= :start
) AND number + count > :start
ORDER BY number;

-- name: stages
-- Stage and reason of references; `$references` stands for one `?` each.
SELECT reference, stage, reason FROM frame WHERE reference IN ($references);

-- name: stages_and_paths
-- Stage and file of references; `$references` stands for one `?` each.
SELECT reference, stage, path FROM frame WHERE reference IN ($references);

-- name: counts
-- Number of frames in each stage.
SELECT stage, SUM(count) FROM frame GROUP BY stage;

-- name: count_failed_in_events
-- Number of a run's failed frames that are in an event; `+` has SQLite look at failed ones only.
SELECT COALESCE(SUM(count), 0) FROM frame WHERE stage = 'failed' AND path != '' AND +run = :run;

-- name: last_failed_in_events
-- A run's newest failed entry that is in an event, with its reason.
SELECT reference, reason FROM frame WHERE stage = 'failed' AND path != '' AND +run = :run
ORDER BY rowid DESC LIMIT 1;

-- name: first_before_stored
-- Of `<base>/<number>` from :start on, the first that is captured, else the end of those known.
SELECT COALESCE(MIN(CASE WHEN stage = 'captured' THEN number END), MAX(number + count))
FROM frame WHERE base = :base AND number >= :start;

-- name: first_before_catalogued
-- The same for the first that is captured or stored.
SELECT COALESCE(MIN(CASE WHEN stage IN ('captured', 'stored') THEN number END), MAX(number + count))
FROM frame WHERE base = :base AND number >= :start;

-- name: newest_failures
-- The newest failed entries, each with its reason.
SELECT reference, reason FROM frame WHERE stage = 'failed' ORDER BY rowid DESC LIMIT :limit;

-- name: servers
-- The acquisition servers of all frames.
SELECT DISTINCT server FROM frame ORDER BY 1;

-- name: count_waiting_at_server
-- Number of frames that wait in a server's spool.
SELECT COALESCE(SUM(count), 0) FROM frame WHERE server = :server AND stage = 'captured';

-- name: count_stored_since
-- Number of frames stored since a time.
SELECT COALESCE(SUM(count), 0) FROM frame WHERE stored_at >= :time;

-- name: is_complete
-- One row if the run is known: whether it is complete.
SELECT complete FROM run WHERE uid = :run;

-- name: complete_runs
-- The runs that are complete.
SELECT uid FROM run WHERE complete = 1;

-- name: heartbeat
-- The writer's last heartbeat.
SELECT beat, trouble FROM pulse;

-- name: last_completed
-- The run that became complete last.
SELECT uid FROM completion ORDER BY number DESC LIMIT 1;

-- name: catalog
-- The catalog that the feed wrote to last.
SELECT identity, start, lacks FROM catalog;

-- name: has_spools
-- One row if the ledger has the table `spool`; older ones get it when their writer starts.
SELECT 1 FROM sqlite_master WHERE name = 'spool';

-- name: spool_fills
-- The fill level of each spool, as the writer saw it last.
SELECT server, bytes, capacity FROM spool;

-- name: forget_spool_fill
-- Remove a spool's fill level; without :server, those of all spools.
DELETE FROM spool WHERE :server IS NULL OR server = :server;

-- name: write_spool_fill
-- Replace a spool's fill level.
INSERT OR REPLACE INTO spool VALUES (:server, :bytes, :capacity);

-- name: structure
-- The structure that a growing file had at its last flush.
SELECT structure FROM structure WHERE path = :path;

-- name: growing
-- One entry of each file whose structure is kept.
SELECT * FROM frame WHERE path IN (SELECT path FROM structure) GROUP BY path;

-- name: keep_structure
-- Replace the structure of a growing file.
INSERT OR REPLACE INTO structure VALUES (:path, :run, :structure);

-- name: forget_structure
-- Remove the structure of a file that was replaced.
DELETE FROM structure WHERE path = :path;

-- name: forget_structures
-- Remove the structures of a run's files, which do not grow any more.
DELETE FROM structure WHERE run = :run;

-- name: add_frame
-- Enter a new frame or block; one that is known already stays as it is.
INSERT OR IGNORE INTO frame (
    reference, run, stream, detector, number, row, server, path, shape, dtype, checksum, axes,
    metadata, ended, count, base, "update", "index", stage, captured_at
) VALUES (
    :reference, :run, :stream, :detector, :number, :row, :server, :path, :shape, :dtype, :checksum,
    :axes, :metadata, :ended, :count, :base, :update, :index, 'captured', :now
);

-- name: mark_stored
-- captured -> stored, with what the spool reported about the frame.
UPDATE frame
SET stage = 'stored', stored_at = :now, checksum = :checksum, ended = :ended, "index" = :index
WHERE reference = :reference AND stage = 'captured';

-- name: mark_catalogued
-- stored -> catalogued.
UPDATE frame SET stage = 'catalogued', catalogued_at = :now
WHERE reference = :reference AND stage = 'stored';

-- name: mark_blocks_catalogued
-- stored -> catalogued, for the blocks of `<base>/<number>` that end at :stop or before.
UPDATE frame SET stage = 'catalogued', catalogued_at = :now
WHERE base = :base AND number + count <= :stop AND stage = 'stored';

-- name: mark_missing
-- stored or catalogued -> captured, since the frame is not in its file any more.
UPDATE frame SET stage = 'captured', stored_at = NULL, catalogued_at = NULL
WHERE reference = :reference AND stage IN ('stored', 'catalogued');

-- name: damaged_stages
-- Reference and run of the frames whose stage is none.
SELECT reference, run FROM frame
WHERE stage NOT IN ('captured', 'stored', 'catalogued', 'failed');

-- name: repair_stage
-- A damaged stage -> captured.
UPDATE frame SET stage = 'captured', reason = '', stored_at = NULL, catalogued_at = NULL
WHERE reference = :reference;

-- name: mark_failed
-- captured -> failed.
UPDATE frame SET stage = 'failed', reason = :reason
WHERE reference = :reference AND stage = 'captured';

-- name: retry_run
-- failed -> captured, for all frames of a run that are in an event.
UPDATE frame SET stage = 'captured', reason = ''
WHERE run = :run AND stage = 'failed' AND path != '';

-- name: retry_reference
-- failed -> captured, for one reference that is in an event.
UPDATE frame SET stage = 'captured', reason = ''
WHERE run = :run AND stage = 'failed' AND path != '' AND reference = :reference;

-- name: give_up_run
-- captured -> failed, for all frames of a run.
UPDATE frame SET stage = 'failed', reason = :reason WHERE run = :run AND stage = 'captured';

-- name: give_up_reference
-- captured -> failed, for one reference of a run.
UPDATE frame SET stage = 'failed', reason = :reason
WHERE run = :run AND stage = 'captured' AND reference = :reference;

-- name: add_run
-- Enter a run; one that is known already stays as it is.
INSERT OR IGNORE INTO run (uid) VALUES (:run);

-- name: mark_run
-- Set whether a run is complete.
UPDATE run SET complete = :complete WHERE uid = :run;

-- name: add_completion
-- Enter a run as the one that became complete last.
INSERT OR REPLACE INTO completion (uid) VALUES (:run);

-- name: write_catalog
-- Replace what is known of the catalog.
INSERT OR REPLACE INTO catalog VALUES (1, :identity, :start, :lacks);

-- name: write_heartbeat
-- Replace the writer's heartbeat.
INSERT OR REPLACE INTO pulse VALUES (1, :now, :trouble);
