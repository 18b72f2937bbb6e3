CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE alerts (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	alert_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	service TEXT NOT NULL,
	metric TEXT NOT NULL,
	severity TEXT NOT NULL,
	reason TEXT NOT NULL,
	opened_at DATETIME NOT NULL,
	state TEXT NOT NULL,
	value REAL,
	threshold REAL,
	acknowledged_at DATETIME,
	resolved_at DATETIME,
	explained_by TEXT,
	note TEXT,
	CONSTRAINT severity_is_known CHECK (severity IN ('info', 'warning', 'critical')),
	CONSTRAINT state_is_known CHECK (state IN ('open', 'acknowledged', 'resolved')),
	UNIQUE (alert_id)
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
	deleted_to INTEGER,
	UNIQUE (file)
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

CREATE TABLE deployment_health_history (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	timestamp DATETIME DEFAULT CURRENT_TIMESTAMP,
	deployment_id TEXT,
	overall_health TEXT NOT NULL,
	services_total INTEGER,
	services_healthy INTEGER,
	services_degraded INTEGER,
	services_unhealthy INTEGER,
	system_load_avg REAL,
	critical_alerts_count INTEGER,
	environment TEXT,
	report TEXT,
	CONSTRAINT overall_health_is_known CHECK (overall_health IN ('healthy', 'degraded', 'unhealthy'))
);

CREATE TABLE heartbeats (
	name TEXT NOT NULL,
	beat_at DATETIME NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE metric_days (
	bucket INTEGER NOT NULL,
	series INTEGER NOT NULL,
	n INTEGER NOT NULL,
	minimum REAL NOT NULL,
	maximum REAL NOT NULL,
	total REAL NOT NULL,
	p50 REAL,
	p95 REAL,
	p99 REAL,
	sketch BLOB NOT NULL,
	PRIMARY KEY (bucket, series)
)
 WITHOUT ROWID;

CREATE TABLE metric_hours (
	bucket INTEGER NOT NULL,
	series INTEGER NOT NULL,
	n INTEGER NOT NULL,
	minimum REAL NOT NULL,
	maximum REAL NOT NULL,
	total REAL NOT NULL,
	p50 REAL,
	p95 REAL,
	p99 REAL,
	sketch BLOB NOT NULL,
	PRIMARY KEY (bucket, series)
)
 WITHOUT ROWID;

CREATE TABLE metric_samples (
	ts INTEGER NOT NULL,
	series INTEGER NOT NULL,
	value REAL NOT NULL,
	PRIMARY KEY (ts, series)
)
 WITHOUT ROWID;

CREATE TABLE metric_series (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	environment TEXT NOT NULL,
	service TEXT NOT NULL,
	metric TEXT NOT NULL,
	UNIQUE (environment, service, metric)
);

CREATE TABLE metric_states (
	environment TEXT NOT NULL,
	service TEXT NOT NULL,
	metric TEXT NOT NULL,
	state BLOB NOT NULL,
	PRIMARY KEY (environment, service, metric)
);

CREATE TABLE performance_baselines (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	service_name TEXT NOT NULL,
	metric_name TEXT NOT NULL,
	baseline_value REAL NOT NULL,
	threshold_warning REAL,
	threshold_critical REAL,
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
	updated_at DATETIME DEFAULT CURRENT_TIMESTAMP,
	environment TEXT,
	service TEXT,
	samples INTEGER DEFAULT 0,
	UNIQUE (service_name, metric_name)
);

CREATE TABLE predictions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	prediction_id TEXT NOT NULL,
	environment TEXT NOT NULL,
	service TEXT NOT NULL,
	metric TEXT NOT NULL,
	value REAL NOT NULL,
	threshold REAL NOT NULL,
	falling BOOLEAN NOT NULL,
	made_at DATETIME NOT NULL,
	expected DATETIME NOT NULL,
	earliest DATETIME NOT NULL,
	latest DATETIME NOT NULL,
	words TEXT NOT NULL,
	outcome TEXT NOT NULL,
	scored_at DATETIME,
	CONSTRAINT outcome_is_known CHECK (outcome IN ('open', 'hit', 'miss', 'averted')),
	UNIQUE (prediction_id)
);

CREATE TABLE probe_results (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	checked_at DATETIME NOT NULL,
	environment TEXT NOT NULL,
	service TEXT NOT NULL,
	kind TEXT NOT NULL,
	target TEXT NOT NULL,
	ok BOOLEAN NOT NULL,
	detail TEXT NOT NULL,
	latency_ms REAL
);

CREATE TABLE reports (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	environment TEXT NOT NULL,
	made_at DATETIME NOT NULL,
	since DATETIME NOT NULL,
	text TEXT NOT NULL
);

CREATE TABLE service_dependencies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	service_name TEXT NOT NULL,
	depends_on_service TEXT NOT NULL,
	dependency_type TEXT NOT NULL,
	health_impact TEXT NOT NULL,
	last_check DATETIME DEFAULT CURRENT_TIMESTAMP,
	status TEXT DEFAULT 'active',
	environment TEXT,
	service TEXT,
	CONSTRAINT dependency_type_is_known CHECK (dependency_type IN ('required', 'optional', 'performance')),
	CONSTRAINT health_impact_is_known CHECK (health_impact IN ('critical', 'moderate', 'low')),
	CONSTRAINT status_is_known CHECK (status IN ('active', 'inactive', 'failed')),
	UNIQUE (service_name, depends_on_service)
);

CREATE TABLE service_health_scores (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	timestamp DATETIME NOT NULL,
	environment TEXT NOT NULL,
	service TEXT NOT NULL,
	score REAL NOT NULL,
	grade TEXT NOT NULL,
	parts TEXT,
	suggestions TEXT
);

CREATE TABLE spool_positions (
	spool TEXT NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (spool)
);

CREATE INDEX idx_alerts_opened_at ON alerts (opened_at);

CREATE INDEX idx_alerts_state ON alerts (state, environment);

CREATE INDEX idx_deployment_health_history_environment ON deployment_health_history (environment, timestamp);

CREATE INDEX idx_deployment_id ON deployment_health_history (deployment_id);

CREATE INDEX idx_predictions_environment ON predictions (environment, outcome);

CREATE INDEX idx_probe_results_checked_at ON probe_results (checked_at);

CREATE INDEX idx_probe_results_service ON probe_results (environment, service, checked_at);

CREATE INDEX idx_reports_environment ON reports (environment, made_at);

CREATE INDEX idx_service_health_scores_service ON service_health_scores (environment, service, timestamp);

CREATE INDEX idx_service_health_scores_timestamp ON service_health_scores (timestamp);

CREATE INDEX idx_timestamp ON deployment_health_history (timestamp);

CREATE VIEW metrics AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts / 1000.0, 'unixepoch') AS timestamp, s.ts, m.environment, m.service, m.metric, s.value
FROM metric_samples s JOIN metric_series m ON m.id = s.series;

CREATE VIEW metrics_by_day AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.bucket / 1000.0, 'unixepoch') AS timestamp, m.environment, m.service, m.metric, s.n AS samples, s.minimum, s.total / s.n AS mean, s.p50, s.p95, s.p99, s.maximum
FROM metric_days s JOIN metric_series m ON m.id = s.series;

CREATE VIEW metrics_by_hour AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.bucket / 1000.0, 'unixepoch') AS timestamp, m.environment, m.service, m.metric, s.n AS samples, s.minimum, s.total / s.n AS mean, s.p50, s.p95, s.p99, s.maximum
FROM metric_hours s JOIN metric_series m ON m.id = s.series;

CREATE VIEW service_metrics AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts / 1000.0, 'unixepoch') AS timestamp, m.environment, m.service,
    max(CASE m.metric WHEN 'cpu_usage' THEN s.value END) AS cpu_usage,
    max(CASE m.metric WHEN 'cpu_seconds_total' THEN s.value END) AS cpu_seconds_total,
    max(CASE m.metric WHEN 'memory_usage' THEN s.value END) AS memory_usage,
    max(CASE m.metric WHEN 'memory_bytes' THEN s.value END) AS memory_bytes,
    max(CASE m.metric WHEN 'response_time' THEN s.value END) AS response_time,
    max(CASE m.metric WHEN 'restarts_total' THEN s.value END) AS restarts_total,
    max(CASE m.metric WHEN 'processes' THEN s.value END) AS processes,
    max(CASE m.metric WHEN 'throttled_periods_total' THEN s.value END) AS throttled_periods_total,
    max(CASE m.metric WHEN 'network_rx_bytes_total' THEN s.value END) AS network_rx_bytes_total,
    max(CASE m.metric WHEN 'network_tx_bytes_total' THEN s.value END) AS network_tx_bytes_total,
    max(CASE m.metric WHEN 'block_read_bytes_total' THEN s.value END) AS block_read_bytes_total,
    max(CASE m.metric WHEN 'block_write_bytes_total' THEN s.value END) AS block_write_bytes_total,
    max(CASE m.metric WHEN 'certificate_days' THEN s.value END) AS certificate_days
FROM metric_samples s JOIN metric_series m ON m.id = s.series WHERE m.service <> 'host'
GROUP BY s.ts, m.environment, m.service;

CREATE VIEW system_metrics AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts / 1000.0, 'unixepoch') AS timestamp, m.environment,
    max(CASE m.metric WHEN 'cpu_usage' THEN s.value END) AS cpu_usage,
    max(CASE m.metric WHEN 'cpu_seconds_total' THEN s.value END) AS cpu_seconds_total,
    max(CASE m.metric WHEN 'load_1m' THEN s.value END) AS load_1m,
    max(CASE m.metric WHEN 'load_5m' THEN s.value END) AS load_5m,
    max(CASE m.metric WHEN 'memory_usage' THEN s.value END) AS memory_usage,
    max(CASE m.metric WHEN 'disk_usage' THEN s.value END) AS disk_usage,
    max(CASE m.metric WHEN 'disk_free_bytes' THEN s.value END) AS disk_free_bytes,
    max(CASE m.metric WHEN 'inodes_usage' THEN s.value END) AS inodes_usage,
    max(CASE m.metric WHEN 'inodes_free' THEN s.value END) AS inodes_free,
    max(CASE m.metric WHEN 'network_rx_bytes_total' THEN s.value END) AS network_rx_bytes_total,
    max(CASE m.metric WHEN 'network_tx_bytes_total' THEN s.value END) AS network_tx_bytes_total,
    max(CASE m.metric WHEN 'pressure_cpu' THEN s.value END) AS pressure_cpu,
    max(CASE m.metric WHEN 'pressure_memory' THEN s.value END) AS pressure_memory,
    max(CASE m.metric WHEN 'pressure_io' THEN s.value END) AS pressure_io,
    max(CASE m.metric WHEN 'store_bytes' THEN s.value END) AS store_bytes
FROM metric_samples s JOIN metric_series m ON m.id = s.series WHERE m.service = 'host'
GROUP BY s.ts, m.environment;

INSERT INTO alembic_version VALUES ('r0003');

INSERT INTO cross_store_version VALUES (1, 0)
