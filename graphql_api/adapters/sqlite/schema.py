"""The tables of a SQLite database of ours, as the steps that lead there.

Times are milliseconds since 1970, so that they are held as exactly as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

Migrations = Sequence[Sequence[str]]

#: Entry n brings a database from version n to n + 1, in one transaction. Never change an entry; add one.
MIGRATIONS: Migrations = (
    (
        """CREATE TABLE cloud_resources (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, manifest TEXT NOT NULL,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX cloud_resources_by_name ON cloud_resources (kind, name)",
        "CREATE INDEX cloud_resources_by_age ON cloud_resources (created_at, id)",
        # The large columns come last: a read of those before them doesn't touch their pages.
        """CREATE TABLE stack_updates (
            id TEXT PRIMARY KEY, cloud_resource_id TEXT NOT NULL, stack_fqdn TEXT, timeout INTEGER NOT NULL,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL, phase TEXT NOT NULL,
            revision INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER, exit_code INTEGER, failure TEXT,
            stack_outputs TEXT NOT NULL, manifest TEXT NOT NULL, output TEXT
        ) STRICT""",
        "CREATE INDEX stack_updates_by_age ON stack_updates (created_at, id)",
        "CREATE INDEX stack_updates_by_resource ON stack_updates (cloud_resource_id, created_at, id)",
        "CREATE INDEX stack_updates_by_status ON stack_updates (status, created_at, id)",
        "CREATE INDEX stack_updates_by_both ON stack_updates (cloud_resource_id, status, created_at, id)",
        "CREATE INDEX stack_updates_queued ON stack_updates (created_at, id, stack_fqdn) WHERE phase = 'queued'",
        """CREATE TABLE stack_claims (
            stack TEXT NOT NULL, epoch INTEGER NOT NULL, owner TEXT NOT NULL, nonce TEXT NOT NULL,
            update_id TEXT NOT NULL, expires_at INTEGER NOT NULL, ended INTEGER NOT NULL, PRIMARY KEY (stack, epoch)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # Built anew, for a column that is added would stand behind the large ones.
        """CREATE TABLE stack_updates_2 (
            id TEXT PRIMARY KEY, cloud_resource_id TEXT NOT NULL, stack_fqdn TEXT, operation TEXT NOT NULL,
            timeout INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL,
            phase TEXT NOT NULL, revision INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER,
            exit_code INTEGER, failure TEXT, stack_outputs TEXT NOT NULL, manifest TEXT NOT NULL, output TEXT
        ) STRICT""",
        """INSERT INTO stack_updates_2 SELECT id, cloud_resource_id, stack_fqdn, 'update', timeout, created_at,
            updated_at, status, phase, revision, started_at, finished_at, exit_code, failure, stack_outputs,
            manifest, output FROM stack_updates ORDER BY rowid""",
        "DROP TABLE stack_updates",
        "ALTER TABLE stack_updates_2 RENAME TO stack_updates",
        "CREATE INDEX stack_updates_by_age ON stack_updates (created_at, id)",
        "CREATE INDEX stack_updates_by_resource ON stack_updates (cloud_resource_id, created_at, id)",
        "CREATE INDEX stack_updates_by_stack ON stack_updates (stack_fqdn, created_at, id)",
        # Whoever asks for a status or an operation searches these once for each of their combinations.
        "CREATE INDEX stack_updates_by_course ON stack_updates (operation, status, created_at, id)",
        """CREATE INDEX stack_updates_by_resource_and_course
            ON stack_updates (cloud_resource_id, operation, status, created_at, id)""",
        """CREATE INDEX stack_updates_by_stack_and_course
            ON stack_updates (stack_fqdn, operation, status, created_at, id)""",
        """CREATE INDEX stack_updates_by_all
            ON stack_updates (cloud_resource_id, stack_fqdn, operation, status, created_at, id)""",
        "CREATE INDEX stack_updates_by_change ON stack_updates (updated_at, id)",
        "CREATE INDEX stack_updates_queued ON stack_updates (created_at, id, stack_fqdn) WHERE phase = 'queued'",
        "CREATE INDEX cloud_resources_by_kind ON cloud_resources (kind, created_at, id)",
        "CREATE INDEX cloud_resources_named ON cloud_resources (name, created_at, id)",
        "CREATE INDEX cloud_resources_by_change ON cloud_resources (updated_at, id)",
        """CREATE TABLE deleted_cloud_resources (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, manifest TEXT NOT NULL,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, deleted_at INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX deleted_cloud_resources_by_time ON deleted_cloud_resources (deleted_at, id)",
    ),
    (
        # Built anew once more, for the same reason.
        """CREATE TABLE stack_updates_3 (
            id TEXT PRIMARY KEY, cloud_resource_id TEXT NOT NULL, stack_fqdn TEXT, operation TEXT NOT NULL,
            timeout INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL,
            phase TEXT NOT NULL, revision INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER,
            exit_code INTEGER, failure TEXT, stack_outputs TEXT NOT NULL, progress TEXT, cancellation TEXT,
            manifest TEXT NOT NULL, output TEXT
        ) STRICT""",
        """INSERT INTO stack_updates_3 SELECT id, cloud_resource_id, stack_fqdn, operation, timeout, created_at,
            updated_at, status, phase, revision, started_at, finished_at, exit_code, failure, stack_outputs,
            NULL, NULL, manifest, output FROM stack_updates ORDER BY rowid""",
        "DROP TABLE stack_updates",
        "ALTER TABLE stack_updates_3 RENAME TO stack_updates",
        "CREATE INDEX stack_updates_by_age ON stack_updates (created_at, id)",
        "CREATE INDEX stack_updates_by_resource ON stack_updates (cloud_resource_id, created_at, id)",
        "CREATE INDEX stack_updates_by_stack ON stack_updates (stack_fqdn, created_at, id)",
        "CREATE INDEX stack_updates_by_course ON stack_updates (operation, status, created_at, id)",
        """CREATE INDEX stack_updates_by_resource_and_course
            ON stack_updates (cloud_resource_id, operation, status, created_at, id)""",
        """CREATE INDEX stack_updates_by_stack_and_course
            ON stack_updates (stack_fqdn, operation, status, created_at, id)""",
        """CREATE INDEX stack_updates_by_all
            ON stack_updates (cloud_resource_id, stack_fqdn, operation, status, created_at, id)""",
        "CREATE INDEX stack_updates_by_change ON stack_updates (updated_at, id)",
        "CREATE INDEX stack_updates_queued ON stack_updates (created_at, id, stack_fqdn) WHERE phase = 'queued'",
        # A row is a chunk of a log.
        """CREATE TABLE stack_update_events (
            update_id TEXT NOT NULL, number INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
            epoch INTEGER NOT NULL, nonce TEXT NOT NULL, kinds INTEGER NOT NULL, place TEXT NOT NULL,
            events TEXT NOT NULL, closing TEXT, PRIMARY KEY (update_id, number)
        ) STRICT""",
        "CREATE INDEX stack_update_events_by_seq ON stack_update_events (update_id, last_seq, kinds)",
        """CREATE TABLE stack_update_requests (
            id TEXT PRIMARY KEY, update_id TEXT NOT NULL, made_at INTEGER NOT NULL, what TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX stack_update_requests_by_age ON stack_update_requests (made_at, id)",
        """CREATE TABLE idempotency_keys (
            caller TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, update_id TEXT NOT NULL,
            created_at INTEGER NOT NULL, PRIMARY KEY (caller, key)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)",
    ),
    (
        # Of these the record is gone, and the log, which may be long, is going.
        "CREATE TABLE half_forgotten_stack_updates (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        "CREATE INDEX idempotency_keys_by_update ON idempotency_keys (update_id)",
        "CREATE INDEX stack_update_requests_by_update ON stack_update_requests (update_id)",
    ),
    (
        # Built anew for one more column, for the same reason.
        """CREATE TABLE stack_updates_5 (
            id TEXT PRIMARY KEY, cloud_resource_id TEXT NOT NULL, stack_fqdn TEXT, operation TEXT NOT NULL,
            timeout INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL,
            phase TEXT NOT NULL, revision INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER,
            exit_code INTEGER, failure TEXT, stack_outputs TEXT NOT NULL, progress TEXT, cancellation TEXT,
            requested_by TEXT, manifest TEXT NOT NULL, output TEXT
        ) STRICT""",
        """INSERT INTO stack_updates_5 SELECT id, cloud_resource_id, stack_fqdn, operation, timeout, created_at,
            updated_at, status, phase, revision, started_at, finished_at, exit_code, failure, stack_outputs,
            progress, cancellation, NULL, manifest, output FROM stack_updates ORDER BY rowid""",
        "DROP TABLE stack_updates",
        "ALTER TABLE stack_updates_5 RENAME TO stack_updates",
        "CREATE INDEX stack_updates_by_age ON stack_updates (created_at, id)",
        "CREATE INDEX stack_updates_by_resource ON stack_updates (cloud_resource_id, created_at, id)",
        "CREATE INDEX stack_updates_by_stack ON stack_updates (stack_fqdn, created_at, id)",
        "CREATE INDEX stack_updates_by_course ON stack_updates (operation, status, created_at, id)",
        """CREATE INDEX stack_updates_by_resource_and_course
            ON stack_updates (cloud_resource_id, operation, status, created_at, id)""",
        """CREATE INDEX stack_updates_by_stack_and_course
            ON stack_updates (stack_fqdn, operation, status, created_at, id)""",
        """CREATE INDEX stack_updates_by_all
            ON stack_updates (cloud_resource_id, stack_fqdn, operation, status, created_at, id)""",
        "CREATE INDEX stack_updates_by_change ON stack_updates (updated_at, id)",
        "CREATE INDEX stack_updates_queued ON stack_updates (created_at, id, stack_fqdn) WHERE phase = 'queued'",
    ),
)
