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

CREATE TABLE auto_recovery_executions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	error_id TEXT NOT NULL,
	recovery_strategy TEXT NOT NULL,
	execution_start DATETIME DEFAULT CURRENT_TIMESTAMP,
	execution_end DATETIME,
	success BOOLEAN,
	steps_executed TEXT,
	final_status TEXT,
	manual_intervention_required BOOLEAN DEFAULT FALSE,
	attempt_id TEXT,
	detected_at DATETIME,
	diagnosed_at DATETIME,
	acted_at DATETIME,
	verified_at DATETIME,
	details TEXT,
	FOREIGN KEY(error_id) REFERENCES deployment_errors (error_id)
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

CREATE TABLE deployment_errors (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	error_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	deployment_id TEXT,
	service_name TEXT,
	text TEXT NOT NULL,
	category TEXT NOT NULL,
	severity TEXT NOT NULL,
	strategy TEXT NOT NULL,
	confidence REAL NOT NULL,
	pattern_name TEXT,
	reason TEXT NOT NULL,
	span TEXT,
	template TEXT,
	fingerprint TEXT NOT NULL,
	source TEXT NOT NULL,
	evidence TEXT,
	first_seen DATETIME NOT NULL,
	last_seen DATETIME NOT NULL,
	count INTEGER DEFAULT 1 NOT NULL,
	predictive BOOLEAN DEFAULT FALSE NOT NULL,
	resolved_at DATETIME,
	resolution TEXT,
	notices INTEGER DEFAULT 0,
	notified_at DATETIME,
	notified_end DATETIME,
	CONSTRAINT severity_is_known CHECK (severity IN ('low', 'medium', 'high', 'critical')),
	UNIQUE (error_id)
);

CREATE TABLE error_impact_analysis (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	error_id TEXT NOT NULL,
	impact_type TEXT NOT NULL,
	affected_services TEXT,
	estimated_recovery_time INTEGER,
	business_impact TEXT,
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT impact_type_is_known CHECK (impact_type IN ('service_down', 'performance_degraded', 'data_loss')),
	CONSTRAINT business_impact_is_known CHECK (business_impact IN ('low', 'medium', 'high', 'critical')),
	FOREIGN KEY(error_id) REFERENCES deployment_errors (error_id)
);

CREATE TABLE error_patterns (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	pattern_name TEXT NOT NULL,
	pattern_regex TEXT NOT NULL,
	category TEXT NOT NULL,
	severity TEXT NOT NULL,
	auto_recovery_possible BOOLEAN DEFAULT FALSE,
	recovery_script_path TEXT,
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
	last_matched DATETIME,
	match_count INTEGER DEFAULT 0,
	strategy TEXT DEFAULT 'investigate(manual)',
	priority INTEGER DEFAULT 50,
	enabled BOOLEAN DEFAULT TRUE,
	shipped BOOLEAN DEFAULT FALSE,
	shipped_version TEXT,
	UNIQUE (pattern_name)
);

CREATE TABLE evidence_bundles (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	bundle_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	deployment_id TEXT,
	error_id TEXT,
	service_name TEXT NOT NULL,
	occasion TEXT NOT NULL,
	taken_at DATETIME NOT NULL,
	reason TEXT NOT NULL,
	first_cause TEXT NOT NULL,
	cause_service TEXT NOT NULL,
	parts TEXT,
	CONSTRAINT occasion_is_known CHECK (occasion IN ('replacement', 'failure')),
	UNIQUE (bundle_id),
	FOREIGN KEY(error_id) REFERENCES deployment_errors (error_id)
);

CREATE TABLE manual_intervention_tickets (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	ticket_id TEXT NOT NULL,
	error_id TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	environment TEXT NOT NULL,
	service_name TEXT,
	title TEXT NOT NULL,
	state TEXT NOT NULL,
	steps TEXT,
	tried TEXT,
	affected_services TEXT,
	opened_at DATETIME NOT NULL,
	resolved_at DATETIME,
	evidence TEXT,
	since DATETIME,
	flow_run_id TEXT,
	CONSTRAINT state_is_known CHECK (state IN ('open', 'acknowledged', 'resolved')),
	UNIQUE (ticket_id),
	FOREIGN KEY(error_id) REFERENCES deployment_errors (error_id)
);

CREATE TABLE recovery_controls (
	environment TEXT NOT NULL,
	service_name TEXT NOT NULL,
	until DATETIME,
	reason TEXT NOT NULL,
	"by" TEXT NOT NULL,
	paused_at DATETIME NOT NULL,
	asked_uid INTEGER,
	asked_user TEXT,
	login_uid INTEGER,
	claimed_by TEXT,
	PRIMARY KEY (environment, service_name)
);

CREATE TABLE spool_positions (
	spool TEXT NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (spool)
);

CREATE TABLE ticket_history (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	ticket_id TEXT NOT NULL,
	at DATETIME NOT NULL,
	"by" TEXT NOT NULL,
	what TEXT NOT NULL,
	asked_uid INTEGER,
	asked_user TEXT,
	login_uid INTEGER,
	claimed_by TEXT,
	FOREIGN KEY(ticket_id) REFERENCES manual_intervention_tickets (ticket_id)
);

CREATE UNIQUE INDEX idx_auto_recovery_executions_attempt ON auto_recovery_executions (attempt_id);

CREATE INDEX idx_auto_recovery_executions_error_id ON auto_recovery_executions (error_id);

CREATE INDEX idx_auto_recovery_executions_start ON auto_recovery_executions (execution_start);

CREATE INDEX idx_deployment_errors_deployment_id ON deployment_errors (deployment_id);

CREATE INDEX idx_deployment_errors_environment ON deployment_errors (environment, last_seen);

CREATE INDEX idx_deployment_errors_last_seen ON deployment_errors (last_seen);

CREATE UNIQUE INDEX idx_deployment_errors_open ON deployment_errors (fingerprint) WHERE resolved_at IS NULL;

CREATE INDEX idx_deployment_errors_resolved_at ON deployment_errors (resolved_at);

CREATE INDEX idx_error_impact_analysis_error_id ON error_impact_analysis (error_id);

CREATE INDEX idx_evidence_bundles_deployment_id ON evidence_bundles (deployment_id);

CREATE INDEX idx_evidence_bundles_error_id ON evidence_bundles (error_id);

CREATE INDEX idx_evidence_bundles_taken_at ON evidence_bundles (taken_at);

CREATE INDEX idx_manual_intervention_tickets_error_id ON manual_intervention_tickets (error_id);

CREATE INDEX idx_manual_intervention_tickets_fingerprint ON manual_intervention_tickets (fingerprint);

CREATE UNIQUE INDEX idx_manual_intervention_tickets_open ON manual_intervention_tickets (fingerprint) WHERE state <> 'resolved';

CREATE INDEX idx_manual_intervention_tickets_state ON manual_intervention_tickets (state, environment);

CREATE INDEX idx_ticket_history_ticket_id ON ticket_history (ticket_id);

INSERT INTO alembic_version VALUES ('r0002');

INSERT INTO cross_store_version VALUES (1, 0)
