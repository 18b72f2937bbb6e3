PRAGMA auto_vacuum=2;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
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
	resolved_at DATETIME, explained_by TEXT, note TEXT, 
	CONSTRAINT severity_is_known CHECK (severity IN ('info', 'warning', 'critical')), 
	CONSTRAINT state_is_known CHECK (state IN ('open', 'acknowledged', 'resolved')), 
	UNIQUE (alert_id)
);
INSERT INTO "alerts" VALUES(1,'alert-961da0c72bf3a581','shop','web','health','critical','does not run: its container exited with code 137, killed by a signal from outside','2026-11-26 09:36:48.051577','resolved',NULL,NULL,NULL,'2026-11-26 09:36:54.087751',NULL,NULL);
INSERT INTO "alerts" VALUES(3,'alert-36532afe1efa25b8','shop','web','health','critical','does not run: its container exited with code 137, killed by a signal from outside','2026-11-26 09:41:55.642110','open',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE archives (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	file TEXT NOT NULL, 
	source TEXT NOT NULL, 
	first TEXT NOT NULL, 
	last TEXT NOT NULL, 
	rows INTEGER NOT NULL, 
	bytes INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	archived_at DATETIME NOT NULL, deleted_to INTEGER, 
	UNIQUE (file)
);
CREATE TABLE cross_store_version (
	id INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "cross_store_version" VALUES(1,7);
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
	critical_alerts_count INTEGER, environment TEXT, report TEXT, 
	CONSTRAINT overall_health_is_known CHECK (overall_health IN ('healthy', 'degraded', 'unhealthy'))
);
INSERT INTO "deployment_health_history" VALUES(1,'2026-11-26 09:33:52.385589','shop-20261126-093335-d6d1','healthy',2,2,0,0,13.64892578125,0,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"healthy","reason":"its own health check passes, and the command probe of shop-web-1 answers","required":true,"probes":[{"service":"web","kind":"command","target":"shop-web-1","ok":true,"detail":"test ended with exit code 0","checked_at":"2026-11-26T09:33:52.383247Z","latency_ms":132.81711200033897,"readings":[]}]}],"findings":[]}');
INSERT INTO "deployment_health_history" VALUES(2,'2026-11-26 09:34:32.771404','shop-20261126-093415-9e06','healthy',2,2,0,0,13.23388671875,0,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"healthy","reason":"its own health check passes, and the command probe of shop-web-1 answers","required":true,"probes":[{"service":"web","kind":"command","target":"shop-web-1","ok":true,"detail":"test ended with exit code 0","checked_at":"2026-11-26T09:34:32.768655Z","latency_ms":108.07377600031032,"readings":[]}]}],"findings":[]}');
INSERT INTO "deployment_health_history" VALUES(3,'2026-11-26 09:34:57.945791','shop-20261126-093438-33fb','healthy',2,2,0,0,15.24267578125,0,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"healthy","reason":"its own health check passes, and the command probe of shop-web-1 answers","required":true,"probes":[{"service":"web","kind":"command","target":"shop-web-1","ok":true,"detail":"test ended with exit code 0","checked_at":"2026-11-26T09:34:57.942882Z","latency_ms":81.70639200034202,"readings":[]}]}],"findings":[]}');
INSERT INTO "deployment_health_history" VALUES(4,'2026-11-26 09:36:14.841690','shop-20261126-093548-8a07','healthy',2,2,0,0,16.71240234375,0,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"healthy","reason":"its own health check passes, and the command probe of shop-web-1 answers","required":true,"probes":[{"service":"web","kind":"command","target":"shop-web-1","ok":true,"detail":"test ended with exit code 0","checked_at":"2026-11-26T09:36:14.838738Z","latency_ms":460.1280169990787,"readings":[]}]}],"findings":[]}');
INSERT INTO "deployment_health_history" VALUES(5,'2026-11-26 09:36:48.051518',NULL,'unhealthy',2,1,0,1,17.34375,1,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"stopped","reason":"does not run: its container exited with code 137, killed by a signal from outside","required":true,"probes":[]}],"findings":["web does not run: its container exited with code 137, killed by a signal from outside"]}');
INSERT INTO "deployment_health_history" VALUES(6,'2026-11-26 09:36:54.087751',NULL,'healthy',2,2,0,0,17.23583984375,0,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"healthy","reason":"its own health check passes, and the command probe of shop-web-1 answers","required":true,"probes":[{"service":"web","kind":"command","target":"shop-web-1","ok":true,"detail":"test ended with exit code 0","checked_at":"2026-11-26T09:36:54.086194Z","latency_ms":223.01886400055082,"readings":[]}]}],"findings":[]}');
INSERT INTO "deployment_health_history" VALUES(7,'2026-11-26 09:37:50.572902','shop-20261126-093728-394c','unhealthy',2,0,0,2,18.525390625,0,'shop','{"services":[{"service":"db","health":"stopped","reason":"does not run: its container exited with code 1","required":true,"probes":[]},{"service":"web","health":"stopped","reason":"was created but never started","required":true,"probes":[]}],"findings":["db does not run: its container exited with code 1","web was created but never started; it needs db, which is down"]}');
INSERT INTO "deployment_health_history" VALUES(8,'2026-11-26 09:37:58.468246','shop-20261126-093728-394c','healthy',2,2,0,0,19.6044921875,0,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"healthy","reason":"its own health check passes, and the command probe of shop-web-1 answers","required":true,"probes":[{"service":"web","kind":"command","target":"shop-web-1","ok":true,"detail":"test ended with exit code 0","checked_at":"2026-11-26T09:37:58.466707Z","latency_ms":326.9912949999707,"readings":[]}]}],"findings":[]}');
INSERT INTO "deployment_health_history" VALUES(9,'2026-11-26 09:41:55.642055',NULL,'unhealthy',2,1,0,1,22.55322265625,1,'shop','{"services":[{"service":"db","health":"healthy","reason":"its own health check passes","required":true,"probes":[]},{"service":"web","health":"stopped","reason":"does not run: its container exited with code 137, killed by a signal from outside","required":true,"probes":[]}],"findings":["web does not run: its container exited with code 137, killed by a signal from outside","nothing was collected from 2026-11-26 09:36:54 to 09:41:55 UTC: 4 looks are missing"]}');
CREATE TABLE heartbeats (
	name TEXT NOT NULL, 
	beat_at DATETIME NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "heartbeats" VALUES('collection/shop','2026-11-26 09:41:55.642110');
CREATE TABLE metric_days (
	bucket INTEGER NOT NULL, 
	series INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	minimum REAL NOT NULL, 
	maximum REAL NOT NULL, 
	total REAL NOT NULL, 
	sketch BLOB NOT NULL, p50 REAL, p95 REAL, p99 REAL, 
	PRIMARY KEY (bucket, series)
)
 WITHOUT ROWID

;
CREATE TABLE metric_hours (
	bucket INTEGER NOT NULL, 
	series INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	minimum REAL NOT NULL, 
	maximum REAL NOT NULL, 
	total REAL NOT NULL, 
	sketch BLOB NOT NULL, p50 REAL, p95 REAL, p99 REAL, 
	PRIMARY KEY (bucket, series)
)
 WITHOUT ROWID

;
CREATE TABLE metric_samples (
	ts INTEGER NOT NULL, 
	series INTEGER NOT NULL, 
	value REAL NOT NULL, 
	PRIMARY KEY (ts, series)
)
 WITHOUT ROWID

;
INSERT INTO "metric_samples" VALUES(1795685650837,11,2.06964200000000018e+04);
INSERT INTO "metric_samples" VALUES(1795685650837,12,67539271680.0);
INSERT INTO "metric_samples" VALUES(1795685650837,13,7.50365997643014708e+01);
INSERT INTO "metric_samples" VALUES(1795685650837,14,15992604.0);
INSERT INTO "metric_samples" VALUES(1795685650837,15,4.6766519546508789e+00);
INSERT INTO "metric_samples" VALUES(1795685650837,16,13.275390625);
INSERT INTO "metric_samples" VALUES(1795685650837,17,9.67236328125);
INSERT INTO "metric_samples" VALUES(1795685650837,18,1.64248509282337593e+01);
INSERT INTO "metric_samples" VALUES(1795685650837,19,3696129327.0);
INSERT INTO "metric_samples" VALUES(1795685650837,20,665743440.0);
INSERT INTO "metric_samples" VALUES(1795685650837,21,98.02);
INSERT INTO "metric_samples" VALUES(1795685650837,22,4.0);
INSERT INTO "metric_samples" VALUES(1795685650837,23,0.0);
INSERT INTO "metric_samples" VALUES(1795685650837,24,362568.0);
INSERT INTO "metric_samples" VALUES(1795685650903,25,0.0);
INSERT INTO "metric_samples" VALUES(1795685650903,26,0.0);
INSERT INTO "metric_samples" VALUES(1795685650903,27,0.387938827);
INSERT INTO "metric_samples" VALUES(1795685650903,28,536576.0);
INSERT INTO "metric_samples" VALUES(1795685650903,29,0.00212282538011133);
INSERT INTO "metric_samples" VALUES(1795685650903,30,656.0);
INSERT INTO "metric_samples" VALUES(1795685650903,31,0.0);
INSERT INTO "metric_samples" VALUES(1795685650903,32,8.0);
INSERT INTO "metric_samples" VALUES(1795685650903,33,1.53506317999926977e+02);
INSERT INTO "metric_samples" VALUES(1795685650903,34,0.0);
INSERT INTO "metric_samples" VALUES(1795685650903,35,0.0);
INSERT INTO "metric_samples" VALUES(1795685650904,1,0.0);
INSERT INTO "metric_samples" VALUES(1795685650904,2,0.0);
INSERT INTO "metric_samples" VALUES(1795685650904,3,0.346781901);
INSERT INTO "metric_samples" VALUES(1795685650904,4,536576.0);
INSERT INTO "metric_samples" VALUES(1795685650904,5,0.00212282538011133);
INSERT INTO "metric_samples" VALUES(1795685650904,6,876.0);
INSERT INTO "metric_samples" VALUES(1795685650904,7,0.0);
INSERT INTO "metric_samples" VALUES(1795685650904,8,2.0);
INSERT INTO "metric_samples" VALUES(1795685650904,9,0.0);
INSERT INTO "metric_samples" VALUES(1795685650904,10,0.0);
INSERT INTO "metric_samples" VALUES(1795685807455,11,2.10096300000000046e+04);
INSERT INTO "metric_samples" VALUES(1795685807455,12,66231066624.0);
INSERT INTO "metric_samples" VALUES(1795685807455,13,75.5201295032365);
INSERT INTO "metric_samples" VALUES(1795685807455,14,15956661.0);
INSERT INTO "metric_samples" VALUES(1795685807455,15,4.89088892936706542e+00);
INSERT INTO "metric_samples" VALUES(1795685807455,16,17.34375);
INSERT INTO "metric_samples" VALUES(1795685807455,17,12.8408203125);
INSERT INTO "metric_samples" VALUES(1795685807455,18,1.7207654940730233e+01);
INSERT INTO "metric_samples" VALUES(1795685807455,19,3964602034.0);
INSERT INTO "metric_samples" VALUES(1795685807455,20,706603208.0);
INSERT INTO "metric_samples" VALUES(1795685807455,21,96.92);
INSERT INTO "metric_samples" VALUES(1795685807455,22,2.55);
INSERT INTO "metric_samples" VALUES(1795685807455,23,0.0);
INSERT INTO "metric_samples" VALUES(1795685807455,24,906408.0);
INSERT INTO "metric_samples" VALUES(1795685807455,37,9.99917384942738749e+01);
INSERT INTO "metric_samples" VALUES(1795685807593,34,0.0);
INSERT INTO "metric_samples" VALUES(1795685807593,38,137.0);
INSERT INTO "metric_samples" VALUES(1795685807593,39,0.0);
INSERT INTO "metric_samples" VALUES(1795685807597,1,0.0);
INSERT INTO "metric_samples" VALUES(1795685807597,2,0.0);
INSERT INTO "metric_samples" VALUES(1795685807597,3,0.571040355);
INSERT INTO "metric_samples" VALUES(1795685807597,4,950272.0);
INSERT INTO "metric_samples" VALUES(1795685807597,5,3.75950754340327163e-03);
INSERT INTO "metric_samples" VALUES(1795685807597,6,946.0);
INSERT INTO "metric_samples" VALUES(1795685807597,7,0.0);
INSERT INTO "metric_samples" VALUES(1795685807597,8,2.0);
INSERT INTO "metric_samples" VALUES(1795685807597,9,0.0);
INSERT INTO "metric_samples" VALUES(1795685807597,10,0.0);
INSERT INTO "metric_samples" VALUES(1795685807597,36,1.43119686171962828e-01);
INSERT INTO "metric_samples" VALUES(1795685986749,40,0.0);
INSERT INTO "metric_samples" VALUES(1795685986749,41,0.0);
INSERT INTO "metric_samples" VALUES(1795686115471,11,2.16256100000000042e+04);
INSERT INTO "metric_samples" VALUES(1795686115471,12,64120348672.0);
INSERT INTO "metric_samples" VALUES(1795686115471,13,7.63002785292742373e+01);
INSERT INTO "metric_samples" VALUES(1795686115471,14,15918759.0);
INSERT INTO "metric_samples" VALUES(1795686115471,15,5.11680245399475097e+00);
INSERT INTO "metric_samples" VALUES(1795686115471,16,22.55322265625);
INSERT INTO "metric_samples" VALUES(1795686115471,17,19.17236328125);
INSERT INTO "metric_samples" VALUES(1795686115471,18,25.4861877799476);
INSERT INTO "metric_samples" VALUES(1795686115471,19,4119980536.0);
INSERT INTO "metric_samples" VALUES(1795686115471,20,845024612.0);
INSERT INTO "metric_samples" VALUES(1795686115471,21,97.98);
INSERT INTO "metric_samples" VALUES(1795686115471,22,1.46);
INSERT INTO "metric_samples" VALUES(1795686115471,23,0.0);
INSERT INTO "metric_samples" VALUES(1795686115471,24,364544.0);
INSERT INTO "metric_samples" VALUES(1795686115471,37,9.9991548816496433e+01);
INSERT INTO "metric_samples" VALUES(1795686115599,34,0.0);
INSERT INTO "metric_samples" VALUES(1795686115599,38,137.0);
INSERT INTO "metric_samples" VALUES(1795686115599,39,0.0);
INSERT INTO "metric_samples" VALUES(1795686115623,1,0.0);
INSERT INTO "metric_samples" VALUES(1795686115623,2,0.0);
INSERT INTO "metric_samples" VALUES(1795686115623,3,3.481893078);
INSERT INTO "metric_samples" VALUES(1795686115623,4,901120.0);
INSERT INTO "metric_samples" VALUES(1795686115623,5,3.56505025667551607e-03);
INSERT INTO "metric_samples" VALUES(1795686115623,6,1086.0);
INSERT INTO "metric_samples" VALUES(1795686115623,7,0.0);
INSERT INTO "metric_samples" VALUES(1795686115623,8,2.0);
INSERT INTO "metric_samples" VALUES(1795686115623,9,0.0);
INSERT INTO "metric_samples" VALUES(1795686115623,10,0.0);
INSERT INTO "metric_samples" VALUES(1795686115623,36,0.945002976423015);
CREATE TABLE metric_series (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	environment TEXT NOT NULL, 
	service TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	UNIQUE (environment, service, metric)
);
INSERT INTO "metric_series" VALUES(1,'shop','db','block_read_bytes_total');
INSERT INTO "metric_series" VALUES(2,'shop','db','block_write_bytes_total');
INSERT INTO "metric_series" VALUES(3,'shop','db','cpu_seconds_total');
INSERT INTO "metric_series" VALUES(4,'shop','db','memory_bytes');
INSERT INTO "metric_series" VALUES(5,'shop','db','memory_usage');
INSERT INTO "metric_series" VALUES(6,'shop','db','network_rx_bytes_total');
INSERT INTO "metric_series" VALUES(7,'shop','db','network_tx_bytes_total');
INSERT INTO "metric_series" VALUES(8,'shop','db','processes');
INSERT INTO "metric_series" VALUES(9,'shop','db','restarts_total');
INSERT INTO "metric_series" VALUES(10,'shop','db','throttled_periods_total');
INSERT INTO "metric_series" VALUES(11,'shop','host','cpu_seconds_total');
INSERT INTO "metric_series" VALUES(12,'shop','host','disk_free_bytes');
INSERT INTO "metric_series" VALUES(13,'shop','host','disk_usage');
INSERT INTO "metric_series" VALUES(14,'shop','host','inodes_free');
INSERT INTO "metric_series" VALUES(15,'shop','host','inodes_usage');
INSERT INTO "metric_series" VALUES(16,'shop','host','load_1m');
INSERT INTO "metric_series" VALUES(17,'shop','host','load_5m');
INSERT INTO "metric_series" VALUES(18,'shop','host','memory_usage');
INSERT INTO "metric_series" VALUES(19,'shop','host','network_rx_bytes_total');
INSERT INTO "metric_series" VALUES(20,'shop','host','network_tx_bytes_total');
INSERT INTO "metric_series" VALUES(21,'shop','host','pressure_cpu');
INSERT INTO "metric_series" VALUES(22,'shop','host','pressure_io');
INSERT INTO "metric_series" VALUES(23,'shop','host','pressure_memory');
INSERT INTO "metric_series" VALUES(24,'shop','host','store_bytes');
INSERT INTO "metric_series" VALUES(25,'shop','web','block_read_bytes_total');
INSERT INTO "metric_series" VALUES(26,'shop','web','block_write_bytes_total');
INSERT INTO "metric_series" VALUES(27,'shop','web','cpu_seconds_total');
INSERT INTO "metric_series" VALUES(28,'shop','web','memory_bytes');
INSERT INTO "metric_series" VALUES(29,'shop','web','memory_usage');
INSERT INTO "metric_series" VALUES(30,'shop','web','network_rx_bytes_total');
INSERT INTO "metric_series" VALUES(31,'shop','web','network_tx_bytes_total');
INSERT INTO "metric_series" VALUES(32,'shop','web','processes');
INSERT INTO "metric_series" VALUES(33,'shop','web','response_time');
INSERT INTO "metric_series" VALUES(34,'shop','web','restarts_total');
INSERT INTO "metric_series" VALUES(35,'shop','web','throttled_periods_total');
INSERT INTO "metric_series" VALUES(36,'shop','db','cpu_usage');
INSERT INTO "metric_series" VALUES(37,'shop','host','cpu_usage');
INSERT INTO "metric_series" VALUES(38,'shop','web','exit_code');
INSERT INTO "metric_series" VALUES(39,'shop','web','oom_kills_total');
INSERT INTO "metric_series" VALUES(40,'shop','db','drift');
INSERT INTO "metric_series" VALUES(41,'shop','web','drift');
CREATE TABLE metric_states (
	environment TEXT NOT NULL, 
	service TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	state BLOB NOT NULL, 
	PRIMARY KEY (environment, service, metric)
);
INSERT INTO "metric_states" VALUES('shop','host','load_1m',X'010B96B544FFC1DA415F25DEB8FFC1DA4101000000719C070000000000010000000100000000000000A08D3640006DB441');
INSERT INTO "metric_states" VALUES('shop','host','memory_usage/trail',X'00000000C6712E41BA287E5A318F4D400000000000000840');
INSERT INTO "metric_states" VALUES('shop','host','memory_usage',X'010B96B544FFC1DA415F25DEB8FFC1DA4101000000719C0700000000000100000001000000FC9666CD767C3940B6E3CB41');
INSERT INTO "metric_states" VALUES('shop','host','disk_usage/trail',X'00000000C6712E4137779D9B6C5B6C400000000000000840');
INSERT INTO "metric_states" VALUES('shop','host','disk_usage',X'010B96B544FFC1DA415F25DEB8FFC1DA4101000000719C070000000000010000000100000020BB6FC337135340BE999842');
INSERT INTO "metric_states" VALUES('shop','host','inodes_usage/trail',X'00000000C6712E4100000040625E2D400000000000000840');
INSERT INTO "metric_states" VALUES('shop','host','inodes_usage',X'010B96B544FFC1DA415F25DEB8FFC1DA4101000000719C0700000000000100000001000000000000109B771440D8BCA340');
INSERT INTO "metric_states" VALUES('shop','host','store_bytes/trail',X'00000000C6712E4100000000F0EC38410000000000000840');
INSERT INTO "metric_states" VALUES('shop','host','store_bytes',X'010B96B544FFC1DA415F25DEB8FFC1DA4101000000719C070000000000010000000100000000000000004016410000B248');
INSERT INTO "metric_states" VALUES('shop','db','memory_usage/trail',X'00000000C6712E414165554E2659833F0000000000000840');
INSERT INTO "metric_states" VALUES('shop','db','memory_usage',X'01EDD7B944FFC1DA4183DBE7B8FFC1DA4101000000719C0700000000000100000001000000E4415AC873346D3F9EA3693B');
INSERT INTO "metric_states" VALUES('shop','web','memory_usage/trail',X'00000000C6712E410974A532E363613F000000000000F03F');
INSERT INTO "metric_states" VALUES('shop','web','memory_usage',X'016DC7B944FFC1DA416DC7B944FFC1DA4100000000719C0700000000000100000000000000000000000000F0FF');
INSERT INTO "metric_states" VALUES('shop','web','response_time',X'016DC7B944FFC1DA416DC7B944FFC1DA4100000000719C0700000000000100000000000000000000000000F0FF');
INSERT INTO "metric_states" VALUES('shop','db','budget',X'78010B0A8D666064600063200506C158C442B088010077270310');
INSERT INTO "metric_states" VALUES('shop','web','budget',X'78010B0A8D6660646040C1C15031A0301C846011030077570310');
INSERT INTO "metric_states" VALUES('shop','','alerts',X'7B227765622F6865616C7468223A7B2273657276696365223A22776562222C226D6574726963223A226865616C7468222C226C6F6F6B73223A5B335D2C22676F6F64223A302C22676F6F645F73696E6365223A6E756C6C2C22616C657274223A7B22616C6572745F6964223A22616C6572742D33363533326166653165666132356238222C22656E7669726F6E6D656E74223A2273686F70222C2273657276696365223A22776562222C226D6574726963223A226865616C7468222C227365766572697479223A22637269746963616C222C22726561736F6E223A22646F6573206E6F742072756E3A2069747320636F6E7461696E657220657869746564207769746820636F6465203133372C206B696C6C65642062792061207369676E616C2066726F6D206F757473696465222C226F70656E65645F6174223A22323032362D31312D32365430393A34313A35352E3634323131302B30303A3030222C227374617465223A226F70656E222C2276616C7565223A6E756C6C2C227468726573686F6C64223A6E756C6C2C2261636B6E6F776C65646765645F6174223A6E756C6C2C227265736F6C7665645F6174223A6E756C6C2C226578706C61696E65645F6279223A6E756C6C2C226E6F7465223A6E756C6C7D2C22666C617070696E67223A66616C73652C22636C6F7365645F6174223A22323032362D31312D32365430393A33363A35342E3038373735312B30303A3030222C22746F6C645F6174223A22323032362D31312D32365430393A34313A35352E3634323131302B30303A3030222C2272656D696E64657273223A302C22636C6F736564223A6E756C6C7D7D');
INSERT INTO "metric_states" VALUES('shop','','round',X'7B227365656E223A7B22686F73742F6C6F61645F316D223A313739353638363131352E3437313033312C22686F73742F6D656D6F72795F7573616765223A313739353638363131352E3437313033312C22686F73742F6469736B5F7573616765223A313739353638363131352E3437313033312C22686F73742F696E6F6465735F7573616765223A313739353638363131352E3437313033312C22686F73742F73746F72655F6279746573223A313739353638363131352E3437313033312C2264622F6D656D6F72795F7573616765223A313739353638363131352E3632323737332C227765622F6D656D6F72795F7573616765223A313739353638353635302E3930323739372C227765622F726573706F6E73655F74696D65223A313739353638353635302E3930323739372C22686F73742F6370755F7573616765223A313739353638363131352E3437313033312C2264622F6370755F7573616765223A313739353638363131352E3632323737337D2C22616273656E74223A7B7D2C227265737461727473223A7B226462223A302E302C22776562223A302E307D2C22677261646573223A7B226462223A2241222C22776562223A2241227D2C2273636F726573223A7B226462223A5B3130302E302C3130302E302C3130302E305D2C22776562223A5B3130302E302C34302E302C34302E305D7D2C226B6570745F73636F726573223A7B226462223A5B3130302E302C2241225D2C22776562223A5B34302E302C2241225D7D2C2273636F7265645F6174223A313739353638363131352E36343231312C22666F7265636173745F6174223A313739353638353635312E3438383530337D');
INSERT INTO "metric_states" VALUES('shop','host','cpu_usage',X'01B81DDD6BFFC1DA415F25DEB8FFC1DA4101000000719C070000000000010000000100000057CF2A8975FF5840ACFBC742');
INSERT INTO "metric_states" VALUES('shop','db','cpu_usage',X'016134E66BFFC1DA4183DBE7B8FFC1DA4101000000719C07000000000001000000010000001881CBE1763DEE3FB7EB713F');
INSERT INTO "metric_states" VALUES('shop','host','cpu_usage/detector',X'78010B61646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B4A5A59EA5A5A1A9898585A19989A5998971AC8E12D8D4BCD29C1C1D2590B1280E029A03351CA2A02035311BE684D49C142013BB4518F6009595027D05322F3F2F1DE2741DA55CA0EF80DE06B916EC7F43909FC1EEC1660044898E52556A513E28B06A6319C0E0833D8C8E57BDB7E3FFC15B8EE1E7B53A4BFF473840C41124AAF8077B181F46C3CC41E8C0C782D98B4FCDA81C3D4300351EE9693335ED1ABAE96A78843F35E372D4ACD110180D81D110202504866EF94F8A2F47D58E86C068088C8600F54300517EC2DAA3301A6217421EBBDD38E51B50CD41D70DD3F7A31EBF3D43451DCC9D087F02001969ABC0');
INSERT INTO "metric_states" VALUES('shop','host','load_1m/detector',X'7801F366646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B491919EA9A9B191919199A9999169AC8E12D8C8BCD29C1C1D25909928AE011A023519A2A02035311B667F6A4E0A9089DD16544B806A4A81FE0119969F970E71B48E522ED05F400F83DC09F6B921C8B760C760E886C8EB2855A516E583C2A83696010C3ED8C3E878D57B3BFE1FBCE508E22FE835738088A3920871883E181F463330C0CC43D587C923561DA6CE5111DA8500221E6967076D4D1EDAE96AE8873F6D6377D4F4D110180D81D110C01D0243BBFCC7EDAF5199D110180D81D110A07508A0969FB0F6288C26DCBF43D58FE4DA06101B610E920C9809D3F7A31E2203E30F557598EE0700E72E9525');
INSERT INTO "metric_states" VALUES('shop','host','memory_usage/detector',X'78010B64646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B491A99E898599A185B9B9B9A5A589B959AC8E12D8D0BCD29C1C1D2590A928EE011A03351BA2A02035311BE682D49C142013BB3DE8D600559502FD04322E3F2F1DE2701DA55CA0DF809E06B915EC7B43908FC1CEC1A21FA24247A92AB5281F1452B5B10C60F0C11E46C7ABDEDBF1FFE02DC73FD3D2CE96D5583A40C41124AAF8077B181F46C3CC41E8C0C782D98B4FCDA81C3D4300351EE9693335ED1ABAE96A78843F35E372D4ACD110180D81D110202504866EF94F8A2F47D58E86C068088C8600F54300517EC2DAA3301A6217421EBBDD38E51B50CD41D70DD3F7A31EBF3D43451DCC9D087F0200A48BADC1');
INSERT INTO "metric_states" VALUES('shop','host','disk_usage/detector',X'78010B61646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B4B9999EB1818191B985A991A591B9899149AC8E12D8D4BCD29C1C1D2590B1280E029A03351CA2A02035311BE684D49C142013BB4518F6009595027D05322F3F2F1DE2741DA55CA0EF80DE06B916EC7F43909FC1EEC1660044898E52556A513E28B06A6319C0E0833D8C8E57BDB7E3FFC15B8E0ABBF30F9B0B073B40C41124AAF8077B181F46C3CC41E8C0C782D98B4FCDA81C3D4300351EE9693335ED1ABAE96A78843F35E372D4ACD110180D81D110202504866EF94F8A2F47D58E86C068088C8600F54300517EC2DAA3301A6217421EBBDD38E51B50CD41D70DD3F7A31EBF3D43451DCC9D087F0200304DA29C');
INSERT INTO "metric_states" VALUES('shop','host','inodes_usage/detector',X'78010B61646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B4A99EA1A19985819189A9B1A5A589B9A961AC8E12D8D4BCD29C1C1D2590B1280E029A03351CA2A02035311BE684D49C142013BB4518F6009595027D05322F3F2F1DE2741DA55CA0EF80DE06B916EC7F43909FC1EEC1660044898E52556A513E28B06A6319C0E0833D8C8E57BDB7E3FFC15B8E40BEC0EC72110788380A89240ED607E3C368A062987928FAB07088558745EBA810AD4200291E696505ADCD1DD2E96A18843FADE377D4FCD110180D81D110C0150243BAFCC7E5A951F1D110180D81D110A04308A0949FB0F6288C06DA8F228FC53D38E51B808A91CC41D70AD3F7A31E2203E30F557598EE07001F7A958E');
INSERT INTO "metric_states" VALUES('shop','host','store_bytes/detector',X'7801B364646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B4B19989A989899E41AC8E12D8B0BCD29C1C1D25906928EE006A879A095150909A980DB339352705C8C46E3ECC78A06C29D00F2063F2F3D2210ED551CA05FA05E84990DBC0BE3504F910EC0C247D10191DA5AAD4A27C5088D4C63280C1077B181DAF7A6FC7FF83B71CC17C0731080D9144907071A83E181F4633C0CC4368C1CE22561D76DDA3A2340A01783CD2C87C9A1B3BC4D3D5900F7F9A47F0A805A321301A02A3218023048678F98FC357A3C2A321301A02A32140FB10402B3F61ED51184DB07F87A61FE1E00630136E0E4202C282E9FB518FCA1FAAEA60FE41B81F00F9018808');
INSERT INTO "metric_states" VALUES('shop','db','memory_usage/detector',X'7801ED56414BC33014AE7FE59D83B46A2AEC32F6371C3D642E6CC5B49166DDC03114FC535EBDF91BF42A78DDD19B266D9EA55B2D0CCAA0233D342F795FBEEFBD2F25343AF3BCF11A7295330103FFDC27308DD582A5B7DC4E33B9523A249071A6640A03800D59039BC82542265CC89585CFE3D99CAB859D893889312E89825D22C10C7AACA5FD4B1A529FFA17340CAF290DC28840419CE6421030CCB59A3495E52F01F79CDD61155C4C75D8ACD524A591B9EECD50CA7456364020D13DEAE64DCD850B81E91C7BDD2BF70F45E08167D2B8B689BCE2D90E717CFEF87AF9797D1F7D8E6EDED45562D7CBAC79D7D7B7439CE3883CD58EB60875DB302E774C07EAE7784CE52EB5FAFB5D9D86FF5D9EA5E3720E38079C038738D0DFFBFF902E1DD639E01C700E74EF40757FE2FF288EA556956FD6FE37FF54E7D9DD8DFBBE1FDB75FA82C33AAB3E7F011217AB65');
INSERT INTO "metric_states" VALUES('shop','db','cpu_usage/detector',X'78010B61646088AE562A2D2E4DCC51B232D033D0514AC92C2E49CC4B4E85728BF2CB8B814C1DA5A2D4C4E2FC3C252B25A55A9D6AA5C4A4FC329892A4D49CFC72A8F28CCCF48CD4E212282F27333713C6861864886E504E224875B4819EA589A9818191A5B9998991B181A169AC8E12D8D4BCD29C1C1D2590B1280E029A03351CA2A02035311BE684D49C142013BB4518F6009595027D05322F3F2F1DE2741DA55CA0EF80DE06B916EC7F43909FA1BE4473285C898E52556A513E28B06A6319C0E0833D8C6EBEFD7CC7FF83B71C251A4F3F2CB37D071587C8824854F10FF6303E8C869983D0818F05B3179F9A51397A86006A3CD2D3666ADA3574D3D5F0087F6AC6E5A859A321301A02A321404A080CDDF29F145F8EAA1D0D81D110180D01EA8700A2FC84B5476134C42E843C76BB71CA37A09A83AE1BA6EF473D7E7B868A3A983B11FE04000E74AE71');
CREATE TABLE performance_baselines (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	service_name TEXT NOT NULL, 
	metric_name TEXT NOT NULL, 
	baseline_value REAL NOT NULL, 
	threshold_warning REAL, 
	threshold_critical REAL, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP, 
	updated_at DATETIME DEFAULT CURRENT_TIMESTAMP, environment TEXT, service TEXT, samples INTEGER DEFAULT 0, 
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
INSERT INTO "predictions" VALUES(1,'p-1','shop','db','memory_percent',71.5,90.0,0,'2026-11-26 09:30:00.000000','2026-11-26 18:00:00.000000','2026-11-26 15:00:00.000000','2026-11-27 02:00:00.000000','memory_percent of db grows by 2.2 an hour','open',NULL);
INSERT INTO "predictions" VALUES(2,'p-2','shop','web','memory_percent',80.0,90.0,0,'2026-11-25 09:30:00.000000','2026-11-25 12:00:00.000000','2026-11-25 11:00:00.000000','2026-11-25 14:00:00.000000','memory_percent of web grows by 4 an hour','miss','2026-11-25 14:05:00.000000');
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
INSERT INTO "probe_results" VALUES(1,'2026-11-26 09:33:52.383247','shop','web','command','shop-web-1',1,'test ended with exit code 0',1.32817112000338966e+02);
INSERT INTO "probe_results" VALUES(2,'2026-11-26 09:34:32.768655','shop','web','command','shop-web-1',1,'test ended with exit code 0',1.08073776000310317e+02);
INSERT INTO "probe_results" VALUES(3,'2026-11-26 09:34:57.942882','shop','web','command','shop-web-1',1,'test ended with exit code 0',8.17063920003420207e+01);
INSERT INTO "probe_results" VALUES(4,'2026-11-26 09:36:14.838738','shop','web','command','shop-web-1',1,'test ended with exit code 0',4.60128016999078681e+02);
INSERT INTO "probe_results" VALUES(5,'2026-11-26 09:37:58.466707','shop','web','command','shop-web-1',1,'test ended with exit code 0',3.26991294999970705e+02);
INSERT INTO "probe_results" VALUES(6,'2026-11-26 09:36:54.086194','shop','web','command','shop-web-1',1,'test ended with exit code 0',2.2301886400055082e+02);
CREATE TABLE reports (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	environment TEXT NOT NULL, 
	made_at DATETIME NOT NULL, 
	since DATETIME NOT NULL, 
	text TEXT NOT NULL
);
INSERT INTO "reports" VALUES(1,'shop','2026-11-26 09:42:41.241886','2026-11-19 09:42:41.241886','# shop, 2026-11-19 to 2026-11-26

## What to do

Nothing stands out.

## Starts

2 of 3 starts succeeded, 67 % (95 % interval 21 to 94 %).

- · success: 2 of 3 succeeded (95 % interval 21-94 %); not enough data for a trend: it takes 30 operations
- · duration: median 5.5 s; not enough data for a trend: 2 of 30 timed operations

| day | starts | succeeded | mean | median | p95 | failures |
|---|--:|--:|--:|--:|--:|---|
| 2026-11-26 | 3 | 2 | 5.5 s | 5.5 s | 6.9 s | 1 missing env secret |

## Failures

| service | cause | times | not mended | mean time to repair | mean time between |
|---|---|--:|--:|--:|--:|
| web | container exited | 2 | 1 | 4 s | 5 min |
| db | disk full | 1 |  | 3 min |  |
| db | missing env secret | 1 | 1 |  |  |
| web | benign | 1 | 1 |  |  |

## Services

| service | score | grade | what costs most |
|---|---|---|---|
| db | 100 | A | no data for performance, errors, dependencies: the score says nothing about it |
| web | 40 | A | the service is down: at most 40 points |

## Alerts

2 causes.

- 11-26 09:41 critical: web: does not run: its container exited with code 137, killed by a signal from outside (`alert-36532afe1efa25b8`)
- 11-26 09:36 critical: web: does not run: its container exited with code 137, killed by a signal from outside (`alert-961da0c72bf3a581`)

## Predictions

None were made.
');
CREATE TABLE service_dependencies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	service_name TEXT NOT NULL, 
	depends_on_service TEXT NOT NULL, 
	dependency_type TEXT NOT NULL, 
	health_impact TEXT NOT NULL, 
	last_check DATETIME DEFAULT CURRENT_TIMESTAMP, 
	status TEXT DEFAULT 'active', environment TEXT, service TEXT, 
	CONSTRAINT dependency_type_is_known CHECK (dependency_type IN ('required', 'optional', 'performance')), 
	CONSTRAINT health_impact_is_known CHECK (health_impact IN ('critical', 'moderate', 'low')), 
	CONSTRAINT status_is_known CHECK (status IN ('active', 'inactive', 'failed')), 
	UNIQUE (service_name, depends_on_service)
);
INSERT INTO "service_dependencies" VALUES(1,'shop/web','db','required','critical','2026-11-26 09:41:55.642110','active','shop','web');
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
INSERT INTO "service_health_scores" VALUES(1,'2026-11-26 09:34:11.488503','shop','db',100.0,'A','{"uptime":100.0,"performance":null,"errors":null,"dependencies":null,"coverage":0.3,"low":0.0,"high":100.0}','["no data for performance, errors, dependencies: the score says nothing about it","fewer than 30 checks: read the score with its bounds"]');
INSERT INTO "service_health_scores" VALUES(2,'2026-11-26 09:34:11.488503','shop','web',100.0,'A','{"uptime":100.0,"performance":null,"errors":100.0,"dependencies":100.0,"coverage":0.75,"low":26.666666666666668,"high":100.0}','["no data for performance: the score says nothing about it","fewer than 30 checks: read the score with its bounds"]');
INSERT INTO "service_health_scores" VALUES(3,'2026-11-26 09:36:48.051577','shop','web',40.0,'A','{"uptime":0.0,"performance":null,"errors":100.0,"dependencies":100.0,"coverage":0.75,"low":26.666666666666668,"high":40.0}','["the service is down: at most 40 points","uptime costs 30 points: look at the errors of its last outages: what ended it, and would it end it again?","no data for performance: the score says nothing about it","fewer than 30 checks: read the score with its bounds"]');
INSERT INTO "service_health_scores" VALUES(4,'2026-11-26 09:41:55.642110','shop','db',100.0,'A','{"uptime":100.0,"performance":null,"errors":null,"dependencies":null,"coverage":0.3,"low":0.0,"high":100.0}','["no data for performance, errors, dependencies: the score says nothing about it","fewer than 30 checks: read the score with its bounds"]');
INSERT INTO "service_health_scores" VALUES(5,'2026-11-26 09:41:55.642110','shop','web',40.0,'A','{"uptime":0.0,"performance":null,"errors":100.0,"dependencies":100.0,"coverage":0.75,"low":26.666666666666668,"high":40.0}','["the service is down: at most 40 points","uptime costs 30 points: look at the errors of its last outages: what ended it, and would it end it again?","no data for performance: the score says nothing about it","fewer than 30 checks: read the score with its bounds"]');
CREATE TABLE spool_positions (
	spool TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	PRIMARY KEY (spool)
);
INSERT INTO "spool_positions" VALUES('monitoring-20261126T094155-32712-120a6f30-000001.spool',922);
CREATE INDEX idx_deployment_id ON deployment_health_history (deployment_id);
CREATE INDEX idx_timestamp ON deployment_health_history (timestamp);
CREATE INDEX idx_alerts_opened_at ON alerts (opened_at);
CREATE INDEX idx_alerts_state ON alerts (state, environment);
CREATE INDEX idx_deployment_health_history_environment ON deployment_health_history (environment, timestamp);
CREATE INDEX idx_probe_results_checked_at ON probe_results (checked_at);
CREATE INDEX idx_probe_results_service ON probe_results (environment, service, checked_at);
CREATE INDEX idx_service_health_scores_service ON service_health_scores (environment, service, timestamp);
CREATE VIEW metrics AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts / 1000.0, 'unixepoch') AS timestamp, s.ts, m.environment, m.service, m.metric, s.value
FROM metric_samples s JOIN metric_series m ON m.id = s.series;
CREATE INDEX idx_predictions_environment ON predictions (environment, outcome);
CREATE INDEX idx_reports_environment ON reports (environment, made_at);
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
CREATE VIEW metrics_by_hour AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.bucket / 1000.0, 'unixepoch') AS timestamp, m.environment, m.service, m.metric, s.n AS samples, s.minimum, s.total / s.n AS mean, s.p50, s.p95, s.p99, s.maximum
FROM metric_hours s JOIN metric_series m ON m.id = s.series;
CREATE VIEW metrics_by_day AS SELECT strftime('%Y-%m-%d %H:%M:%f', s.bucket / 1000.0, 'unixepoch') AS timestamp, m.environment, m.service, m.metric, s.n AS samples, s.minimum, s.total / s.n AS mean, s.p50, s.p95, s.p99, s.maximum
FROM metric_days s JOIN metric_series m ON m.id = s.series;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('deployment_health_history',9);
INSERT INTO "sqlite_sequence" VALUES('probe_results',6);
INSERT INTO "sqlite_sequence" VALUES('metric_series',41);
INSERT INTO "sqlite_sequence" VALUES('service_dependencies',4);
INSERT INTO "sqlite_sequence" VALUES('service_health_scores',5);
INSERT INTO "sqlite_sequence" VALUES('alerts',3);
INSERT INTO "sqlite_sequence" VALUES('reports',1);
INSERT INTO "sqlite_sequence" VALUES('predictions',2);
COMMIT;
