"""The tables of Cloud Storage.

Small data is in the row (one fsync for both); larger data is in a file of `blobs/` with a random ID as name, never the
object's name. A file is complete and on disk before a row names it.
"""

from __future__ import annotations

INLINE_LIMIT = 64 * 1024
"""Maximum bytes of an object's data in its row."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS storage_buckets (
    name TEXT PRIMARY KEY,
    project TEXT NOT NULL,           -- number
    metageneration INTEGER NOT NULL,
    body TEXT NOT NULL,              -- JSON resource without what is derived
    policy TEXT NOT NULL,            -- JSON: bindings and version
    policy_revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS storage_buckets_project ON storage_buckets (project, name);

CREATE TABLE IF NOT EXISTS storage_objects (
    id INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,     -- microseconds since 1970, unique
    metageneration INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('live', 'noncurrent', 'soft')),
    size INTEGER NOT NULL,
    crc32c INTEGER NOT NULL,
    md5 BLOB,                        -- NULL for composed objects
    components INTEGER,              -- of composed objects
    created INTEGER NOT NULL,        -- times in microseconds since 1970
    updated INTEGER NOT NULL,
    deleted INTEGER,
    expires INTEGER,                 -- when a soft-deleted object goes for good
    body TEXT NOT NULL,              -- JSON: the fields a client sets
    blob TEXT,                       -- file name in blobs/; NULL when the data is inline
    inline BLOB                      -- last, so that reading the others never touches its pages
);
CREATE UNIQUE INDEX IF NOT EXISTS storage_objects_live ON storage_objects (bucket, name) WHERE state = 'live';
CREATE UNIQUE INDEX IF NOT EXISTS storage_objects_version ON storage_objects (bucket, name, generation);
CREATE INDEX IF NOT EXISTS storage_objects_blob ON storage_objects (blob) WHERE blob IS NOT NULL;
CREATE INDEX IF NOT EXISTS storage_objects_expires ON storage_objects (expires) WHERE expires IS NOT NULL;

CREATE TABLE IF NOT EXISTS storage_uploads (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('resumable', 'multipart')),
    bucket TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'cancelled')),
    body TEXT NOT NULL,              -- JSON: metadata, preconditions, announced hashes and length
    received INTEGER NOT NULL,       -- bytes of a resumable upload that are on disk
    created INTEGER NOT NULL,
    blob TEXT NOT NULL,              -- file that a resumable upload writes; a multipart one has its parts' files
    generation INTEGER               -- of the object it became
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS storage_uploads_bucket ON storage_uploads (bucket, state);
CREATE INDEX IF NOT EXISTS storage_uploads_blob ON storage_uploads (blob);

CREATE TABLE IF NOT EXISTS storage_parts (
    upload TEXT NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    crc32c INTEGER NOT NULL,
    md5 BLOB NOT NULL,
    updated INTEGER NOT NULL,
    blob TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS storage_parts_blob ON storage_parts (blob);
"""
