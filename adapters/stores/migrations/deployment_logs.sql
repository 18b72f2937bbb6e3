CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE archives (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	file TEXT NOT NULL,
	source TEXT NOT NULL,
	first TEXT NOT NULL,
	last TEXT NOT NULL,
	rows INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	sha256 TEXT NOT NULL,
	archived_at DATETIME NOT NULL,
	UNIQUE (file)
);

CREATE TABLE audit_log (
	seq INTEGER NOT NULL,
	at DATETIME NOT NULL,
	kind TEXT NOT NULL,
	subject TEXT NOT NULL,
	asked_uid INTEGER,
	asked_user TEXT,
	login_uid INTEGER,
	claimed_by TEXT,
	content TEXT NOT NULL,
	previous_hash TEXT NOT NULL,
	hash TEXT NOT NULL,
	PRIMARY KEY (seq)
);

CREATE TABLE cross_store_intents (
	seq INTEGER NOT NULL,
	statements TEXT,
	PRIMARY KEY (seq)
);

CREATE TABLE cross_store_version (
	id INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE dead_letters (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	buried_at DATETIME NOT NULL,
	target TEXT NOT NULL,
	reason TEXT NOT NULL,
	payload TEXT
);

CREATE TABLE deployment_operations (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	deployment_id TEXT NOT NULL,
	operation_type TEXT NOT NULL,
	environment TEXT NOT NULL,
	status TEXT NOT NULL,
	start_time DATETIME DEFAULT CURRENT_TIMESTAMP,
	end_time DATETIME,
	duration_ms INTEGER,
	user_agent TEXT,
	metadata TEXT,
	asked_uid INTEGER,
	asked_user TEXT,
	login_uid INTEGER,
	claimed_by TEXT,
	host_id TEXT,
	CONSTRAINT status_is_known CHECK (status IN ('pending', 'running', 'success', 'failed')),
	CONSTRAINT operation_type_is_known CHECK (operation_type IN ('start', 'stop', 'restart', 'health_check')),
	UNIQUE (deployment_id)
);

CREATE TABLE environment_hosts (
	environment TEXT NOT NULL,
	host_id TEXT NOT NULL,
	since DATETIME NOT NULL,
	PRIMARY KEY (environment)
);

CREATE TABLE environment_leases (
	environment TEXT NOT NULL,
	owner TEXT NOT NULL,
	reason TEXT NOT NULL,
	acquired_at DATETIME NOT NULL,
	expires_at DATETIME NOT NULL,
	runner TEXT,
	host_id TEXT,
	PRIMARY KEY (environment)
);

CREATE TABLE environment_validations (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	deployment_id TEXT NOT NULL,
	validation_time DATETIME DEFAULT CURRENT_TIMESTAMP,
	overall_result BOOLEAN NOT NULL,
	failed_checks TEXT,
	validation_details TEXT,
	recommendations TEXT,
	FOREIGN KEY(deployment_id) REFERENCES deployment_operations (deployment_id)
);

CREATE TABLE hosts (
	host_id TEXT NOT NULL,
	name TEXT NOT NULL,
	version TEXT NOT NULL,
	engine TEXT NOT NULL,
	first_contact DATETIME NOT NULL,
	last_contact DATETIME NOT NULL,
	clock_skew_seconds REAL NOT NULL,
	backlog INTEGER NOT NULL,
	silent_since DATETIME,
	skewed_since DATETIME,
	dismissed_at DATETIME,
	PRIMARY KEY (host_id)
);

CREATE TABLE operation_steps (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	deployment_id TEXT NOT NULL,
	step TEXT NOT NULL,
	service TEXT NOT NULL,
	finished_at DATETIME NOT NULL,
	detail TEXT,
	UNIQUE (deployment_id, step, service),
	FOREIGN KEY(deployment_id) REFERENCES deployment_operations (deployment_id)
);

CREATE TABLE releases (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	release_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	deployment_id TEXT NOT NULL,
	created_at DATETIME NOT NULL,
	compose TEXT,
	digests TEXT,
	hashes TEXT,
	proven BOOLEAN DEFAULT FALSE NOT NULL,
	images TEXT,
	files TEXT,
	variables TEXT,
	reason TEXT,
	UNIQUE (release_id)
);

CREATE TABLE scheduled_runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	schedule TEXT NOT NULL,
	due_at DATETIME NOT NULL,
	at TEXT NOT NULL,
	state TEXT NOT NULL,
	began_at DATETIME,
	ended_at DATETIME,
	attempts INTEGER,
	text TEXT,
	evidence TEXT,
	flow_run_id TEXT,
	host_id TEXT,
	runner TEXT,
	CONSTRAINT state_is_known CHECK (state IN ('declared', 'running', 'succeeded', 'failed', 'idle', 'skipped', 'missed')),
	UNIQUE (environment, schedule, due_at),
	UNIQUE (run_id)
);

CREATE TABLE service_state_changes (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	deployment_id TEXT NOT NULL,
	service_name TEXT NOT NULL,
	previous_state TEXT,
	new_state TEXT NOT NULL,
	change_time DATETIME DEFAULT CURRENT_TIMESTAMP,
	change_reason TEXT,
	metadata TEXT,
	FOREIGN KEY(deployment_id) REFERENCES deployment_operations (deployment_id)
);

CREATE TABLE snapshots (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	snapshot_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	deployment_id TEXT,
	release_id TEXT,
	begun_at DATETIME NOT NULL,
	ended_at DATETIME,
	state TEXT NOT NULL,
	reason TEXT NOT NULL,
	parts TEXT,
	problem TEXT,
	rehearsed_at DATETIME,
	rehearsal TEXT,
	restoring TEXT,
	CONSTRAINT state_is_known CHECK (state IN ('begun', 'whole', 'failed')),
	UNIQUE (snapshot_id)
);

CREATE TABLE spool_positions (
	spool TEXT NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (spool)
);

CREATE INDEX idx_change_time ON service_state_changes (change_time);

CREATE INDEX idx_deployment_id ON deployment_operations (deployment_id);

CREATE INDEX idx_deployment_operations_environment ON deployment_operations (environment, start_time, status);

CREATE INDEX idx_deployment_operations_recorded ON deployment_operations (environment, id);

CREATE INDEX idx_environment_hosts_host ON environment_hosts (host_id);

CREATE INDEX idx_environment_validations_deployment_id ON environment_validations (deployment_id);

CREATE INDEX idx_operation_type ON deployment_operations (operation_type);

CREATE INDEX idx_releases_environment ON releases (environment, created_at);

CREATE INDEX idx_service_name ON service_state_changes (service_name);

CREATE INDEX idx_service_state_changes_deployment_id ON service_state_changes (deployment_id);

CREATE INDEX idx_snapshots_environment ON snapshots (environment, begun_at);

CREATE INDEX idx_start_time ON deployment_operations (start_time);

CREATE INDEX idx_status ON deployment_operations (status);

INSERT INTO alembic_version VALUES ('r0005');

INSERT INTO cross_store_version VALUES (1, 0)
