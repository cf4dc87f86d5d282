"""The tables, as numbered migrations that are only ever added to.

Moments are INTEGER milliseconds since 1970 in UTC, names of files are BLOBs (any bytes but `/` and NUL), money is
INTEGER nano-dollars. States change only through `transitions`.
"""

_FIRST = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One dropped file, from its claim on.
CREATE TABLE sources (
    id          INTEGER PRIMARY KEY,
    state       TEXT    NOT NULL,
    lane        TEXT    NOT NULL,
    claim       BLOB    NOT NULL,            -- its name in processing/<instance>/<lane>/
    name        BLOB    NOT NULL,            -- its name as it was dropped
    visible_name BLOB,                       -- as people see it, where that is spelled otherwise
    owner       TEXT    NOT NULL,
    size_bytes  INTEGER NOT NULL,
    sha256      BLOB,
    dropped_at  INTEGER NOT NULL,
    open_count  INTEGER NOT NULL DEFAULT 0,  -- its requests that have not ended
    is_verified INTEGER NOT NULL DEFAULT 0,  -- it was looked at again before anything of it was sent
    reason      TEXT,
    detail      TEXT,
    what_to_do  TEXT,
    rejected_at INTEGER,                     -- when it was judged; the explanation says so
    target      BLOB,                        -- its name in done/ or rejected/, taken before it moves there
    settled_at  INTEGER,
    UNIQUE (lane, claim)
) STRICT;
CREATE INDEX sources_by_state ON sources (state, id);
CREATE INDEX sources_by_name ON sources (lane, coalesce(visible_name, name)) WHERE state IN ('reading', 'open');
CREATE INDEX sources_judged ON sources (rejected_at) WHERE rejected_at IS NOT NULL;
CREATE INDEX sources_kept ON sources (settled_at) WHERE state = 'done' AND target IS NOT NULL;

-- Claimed files that are being parsed, or were when a process ended.
CREATE TABLE readings (
    lane        TEXT    NOT NULL,
    claim       BLOB    NOT NULL,
    begun_count INTEGER NOT NULL,
    PRIMARY KEY (lane, claim)
) STRICT, WITHOUT ROWID;

-- Claimed files that had changed when they were looked at again.
CREATE TABLE unsettled (
    lane         TEXT    NOT NULL,
    claim        BLOB    NOT NULL,
    change_count INTEGER NOT NULL DEFAULT 1,
    found_at     INTEGER NOT NULL,           -- the first time
    is_still     INTEGER NOT NULL DEFAULT 0, -- it may be read again
    PRIMARY KEY (lane, claim)
) STRICT, WITHOUT ROWID;

-- What such a file has asked for before, and is not to be asked for anew when it is read again.
CREATE TABLE recalled (
    lane       TEXT    NOT NULL,
    claim      BLOB    NOT NULL,
    custom_id  TEXT    NOT NULL,             -- as the file spells or derives it
    digest     BLOB    NOT NULL,
    request_id INTEGER NOT NULL,
    PRIMARY KEY (lane, claim, custom_id, digest, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    id           INTEGER PRIMARY KEY,
    state        TEXT    NOT NULL,
    lane         TEXT    NOT NULL,
    custom_id    TEXT    NOT NULL,
    numbered_from TEXT,                      -- the derived id that was taken, so that this one got a number
    digest       BLOB    NOT NULL,           -- SHA-256 of betas and params: equal means a double drop
    betas        TEXT    NOT NULL,           -- the header's value, sorted
    model        TEXT    NOT NULL,
    max_tokens   INTEGER NOT NULL,
    extension    TEXT    NOT NULL,
    max_attempts INTEGER NOT NULL,
    size_bytes   INTEGER NOT NULL,           -- of the serialised params
    accepted_at  INTEGER NOT NULL,
    waiting_since INTEGER,                   -- for a batch: since it was accepted, or requeued
    canceled_at  INTEGER,                    -- a dropped file said so; it ends as an error whatever becomes of it
    attempts     INTEGER NOT NULL DEFAULT 0, -- tries that failed and count
    batch_id     INTEGER,
    stem         TEXT,                       -- its name in the outbox, taken before the first rename
    error_type   TEXT,
    error_text   TEXT,
    ended_at     INTEGER,
    is_body_gone INTEGER NOT NULL DEFAULT 0  -- an incomplete or failed one's body, deleted after its time
) STRICT;
CREATE UNIQUE INDEX requests_open ON requests (lane, custom_id)
    WHERE state IN ('incoming', 'waiting', 'batched', 'failing');
CREATE INDEX requests_numbered ON requests (lane, numbered_from)
    WHERE numbered_from IS NOT NULL AND state IN ('incoming', 'waiting', 'batched', 'failing');
CREATE INDEX requests_waiting ON requests (lane, betas, id, size_bytes, waiting_since) WHERE state = 'waiting';
CREATE INDEX requests_canceled ON requests (batch_id, id)
    WHERE canceled_at IS NOT NULL AND state IN ('waiting', 'batched');
CREATE INDEX requests_failing ON requests (id) WHERE state = 'failing';
CREATE INDEX requests_ended ON requests (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX requests_with_body ON requests (ended_at)
    WHERE state IN ('incomplete', 'failed') AND is_body_gone = 0;
CREATE UNIQUE INDEX requests_stem ON requests (lane, stem COLLATE NOCASE)
    WHERE stem IS NOT NULL AND state IN ('batched', 'failing');

-- Which files asked for a request: one, or several that are the same.
CREATE TABLE attachments (
    request_id INTEGER NOT NULL,
    source_id  INTEGER NOT NULL,
    line       INTEGER,
    PRIMARY KEY (request_id, source_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachments_by_source ON attachments (source_id);

-- The serialised params, cut into pieces so that none has to be in memory whole to be sent.
CREATE TABLE body_pieces (
    key  INTEGER PRIMARY KEY,                -- request id * 1024 + number of the piece: neighbours on disk too
    data BLOB NOT NULL
) STRICT;

CREATE TABLE batches (
    id            INTEGER PRIMARY KEY,
    state         TEXT    NOT NULL,
    lane          TEXT    NOT NULL,
    betas         TEXT    NOT NULL,
    request_count INTEGER NOT NULL,
    sealed_at     INTEGER NOT NULL,
    api_id        TEXT    UNIQUE,
    nonce         TEXT,                      -- of the sending that the API accepted
    created_at    INTEGER,                   -- this and the next two by the API's clock
    expires_at    INTEGER,
    ended_at      INTEGER,
    counts        TEXT,                      -- JSON: how the API says that its requests ended
    short_reads   INTEGER NOT NULL DEFAULT 0, -- complete reads of the results that had too few lines
    lost_reason   TEXT,                      -- why it was lost the last time: unknown_batch, no_results
    parent_id     INTEGER,                   -- the batch that it is a half of
    refusal       TEXT,                      -- what the API said when it refused it
    is_too_large  INTEGER NOT NULL DEFAULT 0, -- that was a 413
    is_undecided  INTEGER NOT NULL DEFAULT 0, -- it was refused, and what becomes of its members is not decided yet
    is_joined     INTEGER NOT NULL DEFAULT 0, -- two halves put together again: never halved for the same refusal
    break_count   INTEGER NOT NULL DEFAULT 0, -- uploads that the connection or a 5xx ended
    is_probe      INTEGER NOT NULL DEFAULT 0, -- one request that tries whether the account has credit again
    held_reason   TEXT,                      -- why it waits although others may go, for people to see
    file_trouble  TEXT,                      -- which file could not be told to be as it was read, for people to see
    needs_person  INTEGER NOT NULL DEFAULT 0  -- never sent before a person says so
) STRICT;
CREATE INDEX batches_by_state ON batches (state, id);
CREATE INDEX batches_by_parent ON batches (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX batches_undecided ON batches (is_undecided) WHERE is_undecided = 1;

-- Who is in a batch, under which number. Never changed, so that a wire id can be understood for ever.
CREATE TABLE members (
    batch_id   INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_request ON members (request_id);

-- One intent to POST a batch; a batch in doubt may need several, each with wire ids of its own.
CREATE TABLE sendings (
    nonce             TEXT    PRIMARY KEY,
    batch_id          INTEGER NOT NULL,
    outcome           TEXT    NOT NULL,      -- open, accepted, refused, withdrawn, twin
    mark              INTEGER,               -- created_at of the newest batch in the list just before
    base_url          TEXT    NOT NULL,
    key_hash          BLOB    NOT NULL,
    replaces          TEXT,
    intended_at       INTEGER NOT NULL,
    candidates_closed INTEGER NOT NULL DEFAULT 0,
    withdrawn_at      INTEGER,               -- when it was found out that it surely created nothing
    api_request_id    TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sendings_by_batch ON sendings (batch_id);
CREATE INDEX sendings_by_replaces ON sendings (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX sendings_withdrawn ON sendings (withdrawn_at) WHERE withdrawn_at IS NOT NULL;

-- Batches in the workspace that may be the one a sending in doubt created.
CREATE TABLE candidates (
    nonce   TEXT NOT NULL,
    api_id  TEXT NOT NULL,
    verdict TEXT NOT NULL,                   -- open, foreign, ours
    trouble TEXT,                            -- why its first line of results cannot be read, if it cannot
    PRIMARY KEY (nonce, api_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX candidates_by_api_id ON candidates (api_id);

-- A batch that has turned up after its requests went on without it. What is bought beside what is delivered is
-- cancelled, and its cost is booked.
CREATE TABLE twins (
    api_id   TEXT    PRIMARY KEY,
    batch_id INTEGER NOT NULL,
    nonce    TEXT    NOT NULL,
    found_at INTEGER NOT NULL,
    is_undecided INTEGER NOT NULL DEFAULT 0, -- what of it is delivered: no request of it is sent before that is known
    is_booked INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX twins_unbooked ON twins (is_booked) WHERE is_booked = 0;

-- What was paid, once per wire id.
CREATE TABLE charges (
    wire_id       TEXT    PRIMARY KEY,
    request_id    INTEGER NOT NULL,
    model         TEXT    NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_nanousd  INTEGER,                   -- NULL where the model has no price
    sent_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Manifests whose requests had all ended, or gone on, before this database heard of them.
CREATE TABLE old_manifests (
    nonce TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What people ask of the daemon, which obeys when it comes by.
CREATE TABLE orders (
    id         INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    argument   TEXT    NOT NULL,
    ordered_at INTEGER NOT NULL,
    obeyed_at  INTEGER,
    answer     TEXT                          -- what became of it, for the person who gave it
) STRICT;
CREATE INDEX orders_open ON orders (id) WHERE obeyed_at IS NULL;

-- Why something waits that is not the files' fault, for people to see.
CREATE TABLE holds (
    name            TEXT    PRIMARY KEY,
    reason          TEXT    NOT NULL,
    since_at        INTEGER NOT NULL,
    next_attempt_at INTEGER
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS = (_FIRST,)
"""Migration n leads from schema version n to n + 1; the version is kept in `PRAGMA user_version`."""
