#!/bin/sh
# Joins this host to a Holdfast coordinator with one line:
#
#   sh install.sh --coordinator HOST:PORT --token TOKEN [--name NAME] [--label K=V]... [--plugin NAME]...
#       [--from DIR]
#
# or installs the coordinator itself:
#
#   sh install.sh coordinator [--listen ADDR] [--api ADDR] [--host NAME]... [--from DIR]
#
# Running it again changes nothing that is already so, and puts newer programs in place of older.
# `--uninstall` takes the program and its unit away; `--purge` with it also what they kept and ran.
set -eu

BINARIES=/usr/local/bin
UNITS=/etc/systemd/system
SETTINGS=/etc/holdfast
# Where the agent looks for plugins unless its settings name another directory.
PLUGINS=$SETTINGS/plugins
AGENT_DATA=/var/lib/holdfast-agent
# What `holdfast-agent join` writes once the host has a certificate; the unit's condition names it.
AGENT_IDENTITY=$AGENT_DATA/identity/identity.pem
COORDINATOR_DATA=/var/lib/holdfast-coordinator
# How long a freshly started program may take until it is connected, or ready: tenths of a second.
PATIENCE=300

usage() {
    cat <<'USAGE'
Usage: sh install.sh --coordinator HOST:PORT --token TOKEN [options]   join this host as a target
       sh install.sh coordinator [options]                             install the coordinator
       sh install.sh [coordinator] --uninstall [--purge]               take it away again

  --coordinator HOST:PORT  where the coordinator listens for agents (UDP)
  --token TOKEN            one-time secret, from: holdfast token create -e ENVIRONMENT
  --token-file FILE        the same, read from a file, so that it is in no process list
  --name NAME              this target's name (default: the host's name)
  --label K=V              a label that manifests can select; may be repeated
  --plugin NAME            also install this plugin, such as command, helm or terraform; may be repeated
  --listen ADDR            coordinator: address for agents (default 0.0.0.0:7443, UDP)
  --api ADDR               coordinator: address of the API (default 127.0.0.1:7443, TCP)
  --host NAME              coordinator: a name or address by which operators reach its API; may be repeated
  --from DIR               where the programs are (default: beside this script)
  --no-wait                do not wait until the agent is connected
  --uninstall              stop and remove the program; workloads go on, data stays
  --purge                  with --uninstall: remove workloads and data too
USAGE
}

say() { printf '%s\n' "$1" >&2; }

fail() {
    printf 'error: %s\n  help: %s\n' "$1" "$2" >&2
    exit 1
}

wrong_usage() {
    printf 'error: %s\n  help: sh install.sh --help\n' "$1" >&2
    exit 64
}

# --- what is asked for -------------------------------------------------------------------------

role=agent
action=install
coordinator='' token='' token_file='' name='' labels='' plugins='' listen='' api='' hosts='' from=''
wait_connected=yes purge=no

take() { # take FLAG VALUE-OR-NOTHING: the value, or an error
    [ "$2" -ge 2 ] || wrong_usage "$1 needs a value"
}

while [ $# -gt 0 ]; do
    case "$1" in
        coordinator) role=coordinator ;;
        agent) role=agent ;;
        --coordinator) take "$1" $#; coordinator=$2; shift ;;
        --token) take "$1" $#; token=$2; shift ;;
        --token-file) take "$1" $#; token_file=$2; shift ;;
        --name) take "$1" $#; name=$2; shift ;;
        --label) take "$1" $#
            case "$2" in
                *[!A-Za-z0-9._/=-]*) wrong_usage "label '$2' has a character that labels cannot have" ;;
                ?*=?*) labels="$labels $2" ;;
                *) wrong_usage "label '$2' is not of the form KEY=VALUE" ;;
            esac
            shift ;;
        --plugin) take "$1" $#
            case "$2" in
                '' | *[!a-z0-9-]*) wrong_usage "'$2' is not the name of a plugin" ;;
            esac
            plugins="$plugins $2"
            shift ;;
        --listen) take "$1" $#; listen=$2; shift ;;
        --api) take "$1" $#; api=$2; shift ;;
        --host) take "$1" $#
            case "$2" in
                '' | *[!A-Za-z0-9.:-]*) wrong_usage "'$2' is not a host name or address" ;;
            esac
            hosts="$hosts${hosts:+, }\"$2\""
            shift ;;
        --from) take "$1" $#; from=$2; shift ;;
        --no-wait) wait_connected=no ;;
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        -h | --help) usage; exit 0 ;;
        *) wrong_usage "unknown argument '$1'" ;;
    esac
    shift
done

here=$(cd "$(dirname "$0")" && pwd)
program=holdfast-$role
unit=$program.service

# --- what the host must have -------------------------------------------------------------------

check_host() {
    [ "$(id -u)" -eq 0 ] ||
        fail "only root can install a service" "run it again as root, for instance with sudo"
    [ -d /run/systemd/system ] ||
        fail "this host does not run systemd" \
            "start '$program' from the service manager that it has; deploy/README.md shows the command"
}

find_program() {
    for directory in ${from:+"$from"} "$here" "$here/../../bin" "$here/../target/release"; do
        if [ -f "$directory/$1" ]; then
            (cd "$directory" && pwd)
            return 0
        fi
        # A directory that was named is the only one that is meant.
        [ -z "$from" ] || break
    done
    fail "$1 is not in ${from:-$here}" "name the directory that holds it: --from DIR"
}

# Plugins lie in a directory of their own: their names are words such as `command`.
find_plugin() {
    for directory in ${from:+"$from/plugins" "$from/../lib/holdfast/plugins"} \
        "$here/plugins" "$here/../../lib/holdfast/plugins"; do
        if [ -f "$directory/$1" ]; then
            printf '%s\n' "$directory/$1"
            return 0
        fi
    done
    fail "plugin $1 is not in ${from:-$here}/plugins" \
        "'make install' lays those that ship in lib/holdfast/plugins; copy them there beside the programs"
}

find_unit() {
    for directory in "$here/systemd" "$here" ${from:+"$from"}; do
        if [ -f "$directory/$1" ]; then
            printf '%s\n' "$directory/$1"
            return 0
        fi
    done
    fail "$1 is not beside this script" "copy the whole deploy/ directory, not install.sh alone"
}

# A program for another processor would fail with nothing but "Exec format error".
check_architecture() {
    magic=$(od -An -tx1 -N4 "$1" | tr -d ' \n')
    [ "$magic" = 7f454c46 ] || fail "$1 is not a Linux program" "build it with 'make install', or fetch it again"
    case "$(od -An -tu2 -j18 -N2 "$1" | tr -d ' \n')" in
        62) built_for=x86_64 ;;
        183) built_for=aarch64 ;;
        243) built_for=riscv64 ;;
        *) built_for=another ;;
    esac
    [ "$built_for" = "$(uname -m)" ] ||
        fail "$1 is for $built_for processors, this host is $(uname -m)" \
            "take the program that was built for $(uname -m)"
    "$1" --version >/dev/null 2>&1 ||
        fail "$1 does not start on this host" "run '$1 --version' to see why; it may need a newer C library"
}

# --- putting files in place --------------------------------------------------------------------

changed=no

place() { # place SOURCE DESTINATION MODE: by rename, so that no half-written file is ever seen
    if [ -f "$2" ] && cmp -s "$1" "$2"; then return 0; fi
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
    changed=yes
    say "installed $2"
}

install_files() {
    directory=$(find_program "$program")
    source_unit=$(find_unit "$unit")
    check_architecture "$directory/$program"
    mkdir -p "$BINARIES" "$UNITS"
    place "$directory/$program" "$BINARIES/$program" 755
    place "$source_unit" "$UNITS/$unit" 644
    # The operator's command is useful beside the coordinator, and not required.
    if [ "$role" = coordinator ] && [ -f "$directory/holdfast" ]; then
        place "$directory/holdfast" "$BINARIES/holdfast" 755
    fi
    install_plugins
    systemctl daemon-reload
}

# Only what is named: a plugin that is there can be used by whoever may write manifests for this host.
# A running agent sees by itself that one has changed.
install_plugins() {
    restart=$changed
    for plugin in $plugins; do
        file=$(find_plugin "$plugin")
        mkdir -p "$PLUGINS"
        chmod 755 "$PLUGINS"
        place "$file" "$PLUGINS/$plugin" 755
    done
    changed=$restart
}

start() {
    systemctl enable --quiet "$unit"
    if [ "$changed" = yes ] && systemctl is-active --quiet "$unit"; then
        systemctl restart "$unit" || explain_failure
    else
        systemctl start "$unit" || explain_failure
    fi
}

explain_failure() {
    journalctl --unit="$unit" --lines=15 --no-pager --output=cat >&2 2>/dev/null || true
    fail "$unit did not start" "the lines above are its last words; 'journalctl -u $unit' has all of them"
}

# --- the agent ---------------------------------------------------------------------------------

join() {
    if [ -e "$AGENT_IDENTITY" ]; then
        [ -z "$token$token_file" ] || say "already joined; the token was not used"
        return 0
    fi
    [ -n "$coordinator" ] || wrong_usage "--coordinator HOST:PORT is needed to join"
    if [ -n "$token_file" ]; then
        [ -r "$token_file" ] || fail "cannot read $token_file" "write the token into it first"
        token=$(cat "$token_file")
    fi
    [ -n "$token" ] || wrong_usage "--token or --token-file is needed to join"
    set -- --coordinator "$coordinator" --data "$AGENT_DATA"
    [ -z "$name" ] || set -- "$@" --name "$name"
    for label in $labels; do set -- "$@" --label "$label"; done
    mkdir -p "$AGENT_DATA"
    chmod 711 "$AGENT_DATA"
    # By the environment: arguments can be read by every user of the host.
    HOLDFAST_TOKEN=$token "$BINARIES/$program" join "$@" ||
        fail "this host could not join $coordinator" \
            "a token is good for a short time and one host: holdfast token create -e ENVIRONMENT"
}

connected() {
    "$BINARIES/$program" status -o json 2>/dev/null | tr -d ' \n' | grep -q '"connected":true'
}

wait_until_connected() {
    tries=0
    until connected; do
        tries=$((tries + 1))
        if [ "$tries" -ge "$PATIENCE" ]; then
            journalctl --unit="$unit" --lines=15 --no-pager --output=cat >&2 2>/dev/null || true
            fail "the agent runs, but is not connected after $((PATIENCE / 10)) s" \
                "check that UDP to the coordinator is open; the agent goes on trying and needs no new token"
        fi
        sleep 0.1
    done
}

install_agent() {
    install_files
    join
    start
    if [ "$wait_connected" = yes ]; then
        wait_until_connected
        say "joined and connected; 'holdfast-agent status' shows what runs here"
    fi
}

# --- the coordinator ---------------------------------------------------------------------------

write_settings() {
    [ -n "$listen$api$hosts" ] || return 0
    wanted=$(
        [ -z "$listen" ] || printf 'listen = "%s"\n' "$listen"
        [ -z "$api" ] || printf 'api = "%s"\n' "$api"
        [ -z "$hosts" ] || printf 'host = [%s]\n' "$hosts"
    )
    file=$SETTINGS/coordinator.toml
    if [ -e "$file" ]; then
        [ "$(cat "$file")" = "$wanted" ] ||
            fail "$file exists and says something else" "edit it, then run this without --listen, --api and --host"
        return 0
    fi
    mkdir -p "$SETTINGS"
    printf '%s\n' "$wanted" >"$file"
    chmod 644 "$file"
    changed=yes
    say "installed $file"
}

install_coordinator() {
    install_files
    write_settings
    # The unit's type is notify: start returns when the coordinator is ready, or has failed.
    start
    say "ready; the first steps of an operator on this host, as root:"
    say "  export HOLDFAST_CA=$COORDINATOR_DATA/ca.pem HOLDFAST_TOKEN=\$(cat $COORDINATOR_DATA/admin.token)"
    say "  export HOLDFAST_SERVER=https://${api:-127.0.0.1:7443}"
    say "  holdfast get targets"
}

# --- taking it away ----------------------------------------------------------------------------

uninstall() {
    if [ "$role" = agent ] && [ "$purge" = yes ] && [ -x "$BINARIES/$program" ]; then
        "$BINARIES/$program" leave --remove-workloads --data "$AGENT_DATA" ||
            fail "the agent could not remove its workloads" \
                "mend what it says above, or leave them running: --uninstall without --purge"
    fi
    if [ -e "$UNITS/$unit" ]; then systemctl disable --quiet --now "$unit"; fi
    rm -f "$UNITS/$unit" "$BINARIES/$program"
    systemctl daemon-reload
    if [ "$purge" = yes ]; then
        case "$role" in
            agent) rm -rf "$AGENT_DATA" ;;
            coordinator) rm -rf "$COORDINATOR_DATA" "/var/lib/private/$program" "$SETTINGS/coordinator.toml" ;;
        esac
        say "$program and what it kept are gone"
    elif [ "$role" = agent ]; then
        say "$program is gone; what it kept is in $AGENT_DATA, and workloads go on until the host stops"
    else
        say "$program is gone; what it kept, with the root key, is in $COORDINATOR_DATA"
    fi
}

check_host
[ "$role" = agent ] || [ -z "$plugins" ] || wrong_usage "plugins are for targets, not for the coordinator"
case "$action-$role" in
    install-agent) install_agent ;;
    install-coordinator) install_coordinator ;;
    uninstall-*) uninstall ;;
esac
