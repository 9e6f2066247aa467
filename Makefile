# The one list of commands. `make test` is what CI runs.
.PHONY: demo test fmt lint unit sim model lab lab-nemesis lab-nginx lab-vrrp bench bench-quick bench-course bench-scale bench-load bench-hot bench-announce mutations fuzz deny

CARGO ?= cargo

# Three hosts, real nginx, one VIP; needs root, installs what it misses.
demo:
	$(CARGO) build --release --bin haclusterd --example vipclient
	tests/demo.sh $$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release

test: fmt lint unit sim model lab

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Everything but the simulation and the lab: units, wire fixtures, properties, adapters against the real kernel.
unit:
	$(CARGO) test --workspace --locked --lib --bins --test conformance --test fence --test floors --test gossip --test join --test keepalived --test kernel --test probe --test vrrp_io

# The engine against random courses of events. SEEDS=n, SIM_SEED=k for one of them with its log.
sim:
	$(if $(SEEDS),SIM_SEEDS=$(SEEDS) )$(CARGO) test --locked --test sim -- --nocapture

# The whole program on hosts of its own; a minute of it under random faults.
lab:
	$(CARGO) test --locked --test lab -- --nocapture

# The engine against every course of events, as far as MODEL_STATES reach, and without each of its rules.
model:
	$(CARGO) test --locked --test model -- --nocapture

# Random faults for longer than in `lab`. NEMESIS_SECONDS, NEMESIS_SEED, NEMESIS_NODES (3 to 5); NEMESIS_QUIET=loss5,
# loss20 or load: that instead of faults.
NEMESIS = nemesis::no_course_of_faults_gives_the_vip_two_owners
lab-nemesis:
	NEMESIS_SECONDS=$${NEMESIS_SECONDS:-600} $(CARGO) test --locked --test lab -- --exact $(NEMESIS) --nocapture

# The same faults on haclusterd's rival, some minutes; needs keepalived and curl.
BESIDE = compare::nginx_faults_beside_keepalived
lab-nginx:
	$(CARGO) test --locked --test lab -- --exact $(BESIDE) --ignored --nocapture

# Virtual routers beside keepalived's: takeover, the jitter of adverts (VRRP_MINUTES, 1), 255 of them; with the program
# that is shipped, on a machine that does nothing else.
lab-vrrp:
	$(CARGO) build --release --locked --bin haclusterd
	LAB_HACLUSTERD=$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/haclusterd \
	$(CARGO) test --locked --test lab vrrp::bench:: -- --ignored --nocapture --test-threads 1

# The same faults on haclusterd and on keepalived, in one run of at most 15 minutes; writes docs/benchmarks. One round of
# each in `bench-quick`, which writes to the target directory. BENCH_ROUNDS (20), BENCH_SYSTEM, BENCH_FAULT: parts of their
# names. With the program that is shipped, on a machine that does nothing else; needs keepalived.
bench bench-quick:
	$(CARGO) build --release --locked --bin haclusterd
	$(if $(filter bench-quick,$@),BENCH_ROUNDS=1 )LAB_HACLUSTERD=$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/haclusterd \
	$(CARGO) test --locked --test lab bench::failover -- --exact --ignored --nocapture

# Which step of a failover takes how long; what grows with the number of nodes and of VIPs (SCALE='nodes VIPs'); how late
# adverts go while both processors are busy and the disk is flooded (LOAD_MINUTES, 10; needs wrk).
bench-course bench-scale bench-load:
	$(CARGO) build --release --locked --bin haclusterd
	LAB_HACLUSTERD=$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/haclusterd \
	$(CARGO) test --locked --test lab $(subst -,::,$@) -- --ignored --nocapture

# The pieces that run for every packet, and what they allocate.
bench-hot:
	$(CARGO) bench --locked --bench hot --bench rest

# How soon neighbours' caches follow the VIP, with and without asking each of them, while frames are lost.
bench-announce:
	$(CARGO) test --locked --test kernel announce::how_soon_caches_follow -- --exact --ignored --nocapture

# More mistakes in keepalived.conf files than in `unit`, against keepalived -t. MUTATIONS (4000), MUTATION_SEED.
mutations:
	MUTATIONS=$${MUTATIONS:-4000} $(CARGO) test --locked --test keepalived -- --nocapture mutation

# A keepalived.conf of any bytes, FUZZ_SECONDS (60); needs a nightly Rust and cargo-fuzz.
fuzz:
	mkdir -p target/fuzz-corpus
	$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz keepalived_conf target/fuzz-corpus tests/fixtures/keepalived \
		-- -max_total_time=$${FUZZ_SECONDS:-60} -max_len=8192 -timeout=10 -rss_limit_mb=1024

# Licences, advisories, sources; needs cargo-deny.
deny:
	$(CARGO) deny check
