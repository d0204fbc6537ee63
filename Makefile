# From nothing on a fresh Debian 12, as root, after `apt-get install -y git make`:
#   make demo   two routers, two sessions, negotiated keys, a rekey, refused impostors
#   make test   lint, types, and every test, in a kernel with TCP-AO

VENV   := build/venv
PYTHON := $(VENV)/bin/python

# Debian's own Python where it is new enough: a Python below a private home can't be read by
# ExaBGP once it has dropped its privileges.
BASE_PYTHON := $(shell for python in /usr/bin/python3 python3; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
    && echo $$python && break; done)

RUN_PACKAGES  := python3 python3-venv ca-certificates iproute2 iptables iputils-ping nftables \
    tcpdump util-linux
TEST_PACKAGES := strongswan-charon strongswan-swanctl \
    libstrongswan-standard-plugins libstrongswan-extra-plugins systemd tshark

# The demo and the tests find their tools in the environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup kernel libreswan promtool lint check coverage sizes test demo dist manuals clean \
    flood soak-ike upstream-suites releases
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   make/make/p' Makefile
	@echo 'make setup  Debian packages and the Python environment in $(VENV)'
	@echo 'make kernel a kernel with TCP-AO, built once where the host has none'
	@echo 'make lint   ruff and mypy'
	@echo 'make check  lint, and every test that needs no root, kernel or other daemon'
	@echo 'make coverage  branches of the cores, with a floor'
	@echo 'make sizes  files, folders and functions that are large, with their reasons'
	@echo 'make flood  forged segments against live sessions, a minute of each kind'
	@echo 'make soak-ike  hostile peers and networks against IKE, for a quarter of an hour'
	@echo 'make upstream-suites  ExaBGP'"'"'s own suites and examples, plain and with our hooks'
	@echo 'make releases  the tests of what ExaBGP may change, with each release since 5.0.13'
	@echo 'make manuals  manual pages and shell completion in build/manuals'
	@echo 'make dist   wheel (the same octets each time) and source distribution, in build/dist'

setup: packages-run $(VENV)/.complete

# Quick and without network when everything is there.
packages-%:
	@missing=$$(for name in $(PACKAGES); do \
	    dpkg-query -W -f '$${db:Status-Abbrev}' $$name 2> /dev/null | grep -q '^ii' \
	    || echo $$name; done); \
	if [ "$$missing" ]; then \
	    echo "setup: installing" $$missing; \
	    command -v apt-get > /dev/null || { echo "setup: no apt-get here" >&2; exit 1; }; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } \
	        > build/packages.log 2>&1 || { tail -n 20 build/packages.log >&2; exit 1; }; \
	fi
packages-run: PACKAGES := $(RUN_PACKAGES)
packages-test: PACKAGES := $(TEST_PACKAGES)
packages-run packages-test: | build

build:
	@mkdir -p build

# What the demo needs is installed in half the time of what the tests need beside it.
$(VENV)/.complete: EXTRAS := lab,test,kmac
$(VENV)/.for-demo: EXTRAS := lab
$(VENV)/.complete $(VENV)/.for-demo: pyproject.toml | packages-run
	@echo 'setup: Python environment in $(VENV), with $(EXTRAS)'
	@set -e; base='$(BASE_PYTHON)'; [ "$$base" ] || base=/usr/bin/python3; \
	[ -x $(PYTHON) ] || $$base -m venv $(VENV)
	@$(PYTHON) -m pip install -q --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@

kernel: setup
	@$(PYTHON) -m lab.tcpao_kernel prepare

lint: setup
	@$(PYTHON) -m ruff check -q .
	@$(PYTHON) -m ruff format -q --check .
	@$(PYTHON) -m mypy

# The tests' second IKEv2 peer. Its package conflicts with strongSwan's, so it is unpacked into a
# root of its own; what it depends on doesn't, and is installed.
LIBRESWAN := build/libreswan

$(LIBRESWAN)/.complete: | packages-test
	@echo 'setup: libreswan in $(LIBRESWAN)'
	@rm -rf $(LIBRESWAN) && mkdir -p $(LIBRESWAN)
	@cd $(LIBRESWAN) && { export DEBIAN_FRONTEND=noninteractive; set -e; \
	    apt-get update -qq; \
	    apt-get download -qq libreswan; \
	    apt-get satisfy -y -qq --no-install-recommends "$$(dpkg-deb -f libreswan_*.deb Depends)"; \
	    dpkg-deb -x libreswan_*.deb .; } > ../libreswan.log 2>&1 \
	    || { tail -n 20 ../libreswan.log >&2; exit 1; }
	@touch $@

libreswan: $(LIBRESWAN)/.complete

# The tests' judge of alert rules; Prometheus itself need not be installed.
PROMTOOL := build/promtool

$(PROMTOOL)/.complete: | packages-test
	@echo 'setup: promtool in $(PROMTOOL)'
	@rm -rf $(PROMTOOL) && mkdir -p $(PROMTOOL)
	@cd $(PROMTOOL) && { apt-get update -qq; apt-get download -qq prometheus; \
	    dpkg-deb -x prometheus_*.deb .; } > ../promtool.log 2>&1 \
	    || { tail -n 20 ../promtool.log >&2; exit 1; }
	@rm -f $(PROMTOOL)/prometheus_*.deb $(PROMTOOL)/usr/bin/prometheus
	@touch $@

promtool: $(PROMTOOL)/.complete

test: packages-test libreswan promtool lint kernel
	@$(PYTHON) -m pytest

# What needs no root, no kernel of ours and no other daemon: by anybody, before each commit.
WITHOUT := not kernel and not netns and not native

# The long form of tests/e2e/test_flood.py; its table is build/interop/flood.md.
flood: packages-test setup
	@FLOOD_SECONDS=60 $(PYTHON) -m pytest -q -s -m native tests/e2e/test_flood.py
	@cat build/interop/flood.md

check: lint
	@$(VENV)/bin/codespell
	@$(PYTHON) -m pytest -q -m '$(WITHOUT) and not boots'

# Branches of what does no I/O, by tests that do none.
coverage: setup
	@$(PYTHON) -m coverage run -m pytest -q -m '$(WITHOUT) and not boots' \
	    tests/gatekeeper tests/ikev2 tests/tcpao tests/keymaterial tests/plugin
	@$(PYTHON) -m coverage report

sizes: setup
	@$(PYTHON) -m lab.sizes

# What CI tries for seconds, for as long as wanted: SOAK=50 is two minutes on one processor.
SOAK := 500

soak-ike: setup
	@SOAK=$(SOAK) $(PYTHON) -m pytest -q -o timeout=0 tests/ikev2/test_soak.py tests/ikev2/test_weird_der.py

# As root. TESTS: an unpacked source of ExaBGP that has `qa`, where Debian's can't be had.
upstream-suites: setup
	@$(PYTHON) -m lab.upstream $(if $(TESTS),--tests $(TESTS))

# As root. Each release of ExaBGP in an environment of its own.
RELEASES := 5.0.13 5.0.14
BY_RELEASE := tests/e2e/test_two_sessions.py tests/e2e/test_keychain.py tests/e2e/test_reload_and_end.py \
    tests/e2e/test_protection_by_reload.py tests/e2e/test_protecting_a_plain_neighbor.py

releases: packages-test setup
	@set -e; for release in $(RELEASES); do \
	    venv=$(CURDIR)/build/exabgp-$$release; \
	    echo "ExaBGP $$release, in $$venv"; \
	    [ -x $$venv/bin/python ] || $(BASE_PYTHON) -m venv $$venv; \
	    $$venv/bin/pip install -q --disable-pip-version-check -e '.[lab,test,kmac]' exabgp==$$release; \
	    export PATH=$$venv/bin:$$PATH; \
	    $$venv/bin/python -m pytest -q -m '$(WITHOUT) and not boots' tests/plugin; \
	    $$venv/bin/python -m pytest -q -m native $(BY_RELEASE); \
	done

demo: packages-run $(if $(wildcard $(VENV)/.complete),$(VENV)/.complete,$(VENV)/.for-demo)
	@$(PYTHON) -m lab.demo $(DEMO)

# The wheel has the same octets for the same commit: its files are dated by the commit.
dist: setup
	@rm -rf build/dist && mkdir -p build/dist
	@$(PYTHON) -m pip install -q --disable-pip-version-check build
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PYTHON) -m build -o build/dist . \
	    > build/dist.log 2>&1 || { tail -n 20 build/dist.log >&2; exit 1; }
	@cd build/dist && sha256sum *

manuals: setup
	@$(PYTHON) -m lab.manuals build/manuals

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
