# Sourced by .ci/run: a private PostgreSQL on loopback, its address in FIVENINES_TEST_POSTGRESQL, stopped at exit.
# Works as root and as a user, without systemd. When a server is given already, it is used and left alone.

postgres_start() {
  [ -z "${FIVENINES_TEST_POSTGRESQL:-}" ] || return 0
  local bin
  bin="$(postgres_bin)"
  if [ -z "$bin" ]; then
    echo "installing postgresql" >&2
    # Debian's package would start a cluster of its own, which nobody needs.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
    bin="$(postgres_bin)"
  fi
  [ -n "$bin" ] || { echo "no PostgreSQL server programs found" >&2; return 1; }

  POSTGRES_HOME="$(mktemp -d)"
  POSTGRES_BIN="$bin"
  trap postgres_stop EXIT
  [ "$(id -u)" -ne 0 ] || chown postgres "$POSTGRES_HOME"   # the server refuses to run as root
  chmod 700 "$POSTGRES_HOME"
  postgres_do "$bin/initdb" -D "$POSTGRES_HOME/data" -U fivenines -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null

  local port attempt
  for attempt in 1 2 3 4 5; do   # another process may take the port between the look and the start
    port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    if postgres_do "$bin/pg_ctl" -D "$POSTGRES_HOME/data" -l "$POSTGRES_HOME/log" -w -t 60 \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off" start >/dev/null; then
      export FIVENINES_TEST_POSTGRESQL="postgresql://fivenines@127.0.0.1:$port/postgres"
      echo "PostgreSQL for the tests: $FIVENINES_TEST_POSTGRESQL" >&2
      return 0
    fi
  done
  cat "$POSTGRES_HOME/log" >&2
  return 1
}

postgres_bin() {   # the newest installed server, by its programs
  local found
  found="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)"
  if [ -n "$found" ] && [ -x "$found/initdb" ]; then echo "$found"; return 0; fi
  found="$(command -v initdb || true)"
  if [ -n "$found" ]; then dirname "$(readlink -f "$found")"; fi
}

postgres_do() {   # run as the server's user: postgres when we are root
  if [ "$(id -u)" -eq 0 ]; then (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$@"); else "$@"; fi
}

postgres_stop() {
  postgres_do "$POSTGRES_BIN/pg_ctl" -D "$POSTGRES_HOME/data" -m immediate -w stop >/dev/null 2>&1 || true
  rm -rf "$POSTGRES_HOME"
}

postgres_start
