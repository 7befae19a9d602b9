#!/usr/bin/env bash
# Install the agent for whoever runs this, on Linux or macOS; again to upgrade or to change a setting.
#
#   install-agent.sh [--server URL] [--extension N] [--name NAME] [--token TOKEN|-] [--from SOURCE] [--no-start]
#   install-agent.sh --uninstall [--purge]
#
# --token -    reads the token from standard input, so that it is in no list of processes
# --from       what pip installs: a wheel, a folder, whisperagent==1.2.3. Else the sources beside this script,
#              or the newest release where there are none
# --purge      deletes settings and recordings as well, but refuses while some are not sent
#
# Exit codes: 0; 2 an option or a setting is wrong; 5 recordings are not sent yet; 1 anything else.
set -euo pipefail

environment="${XDG_DATA_HOME:-$HOME/.local/share}/whisperagent"
link="$HOME/.local/bin/wa"
wa="$environment/bin/wa"
root=$(cd "$(dirname "$0")/.." && pwd)

say() { echo "$*" >&2; }
fail() {
    local code=$1
    shift
    say "install-agent.sh: $*"
    exit "$code"
}

server="" extension="" name="" token="" from="" start=yes remove=no purge=no
while [ $# -gt 0 ]; do
    case $1 in
    --server | --extension | --name | --token | --from)
        [ $# -ge 2 ] || fail 2 "$1 needs a value"
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    --code) fail 2 "this version does not enrol a PC by a code yet: give its token by --token" ;;
    --no-start) start=no ;;
    --uninstall) remove=yes ;;
    --purge) purge=yes ;;
    -h | --help)
        sed -n '2,/^set/{s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) fail 2 "there is no option $1; --help lists them" ;;
    esac
    shift
done

home_of_agent() { "$environment/bin/python" -c 'from whisperagent.settings import paths; print(paths().home)'; }

uninstall() {
    [ -x "$wa" ] || fail 1 "nothing is installed in $environment"
    local home unsent
    home=$(home_of_agent)
    # Stopped first: a call that is up is closed and queued.
    "$wa" agent uninstall || say "it could not be taken out of the start at login"
    unsent=$(find "$home/spool" -name '*.srec' ! -path '*/done/*' 2>/dev/null | wc -l | tr -d ' ')
    if [ "$purge" = yes ] && [ "$unsent" != 0 ]; then
        start_agent || true
        fail 5 "$unsent of the recordings in $home/spool are not sent yet; \`wa queue list\` shows them"
    fi
    [ "$purge" = no ] || rm -rf "$home" "$(dirname "$("$wa" config path)")"
    [ "$(readlink "$link" 2>/dev/null)" != "$wa" ] || rm "$link"
    rm -rf "$environment"
    say "WhisperAgent is uninstalled"
    [ "$purge" = yes ] || say "settings and recordings stay in $home; $unsent of them are not sent yet"
}

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail 1 "Python 3.11 or newer with venv is needed (Debian, Ubuntu: apt install python3-venv)"
}

install() {
    local pins=()
    if [ -z "$from" ] && [ -f "$root/pyproject.toml" ]; then
        from=$root
    fi
    [ ! -f "$root/constraints.txt" ] || pins=(-c "$root/constraints.txt")
    if [ -e "$link" ] && [ "$(readlink "$link")" != "$wa" ]; then
        fail 1 "$link is something else; move it away first"
    fi
    if [ ! -x "$environment/bin/pip" ]; then
        local python
        python=$(find_python)
        "$python" -m venv "$environment"
    fi
    "$environment/bin/pip" install --quiet --disable-pip-version-check --upgrade \
        ${pins[@]+"${pins[@]}"} "${from:-whisperagent}" >&2
    mkdir -p "$(dirname "$link")"
    ln -sfn "$wa" "$link"
}

# All settings or none: they are tried on a copy of config.toml.
configure() {
    local config draft
    config=$("$wa" config path)
    draft=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder as it is now
    trap "rm -rf '$draft'" EXIT
    [ ! -f "$config" ] || cp "$config" "$draft/config.toml"
    set_in_draft() { [ -z "$2" ] || WA_CONFIG="$draft/config.toml" "$wa" --quiet config set "$1" "$2"; }
    set_in_draft server.url "$server"
    set_in_draft agent.extension "$extension"
    set_in_draft agent.name "$name"
    if [ -f "$draft/config.toml" ]; then
        mkdir -p "$(dirname "$config")"
        cp "$draft/config.toml" "$config"
        chmod 600 "$config"
    fi
    [ "$token" != - ] || IFS= read -r token || [ -n "$token" ] || fail 2 "no token on standard input"
    if [ -n "$token" ]; then
        local home
        home=$(home_of_agent)
        mkdir -p "$home"
        (umask 077 && printf '%s\n' "$token" >"$home/token.new")
        mv "$home/token.new" "$home/token"
    fi
}

# Now and at login. One that runs already is started again: it would go on with the old version.
start_agent() {
    if [ "$(uname)" = Linux ]; then
        "$wa" agent install && systemctl --user restart whisperagent.service
    else
        "$wa" agent install --now
    fi
}

if [ "$remove" = yes ]; then
    uninstall
    exit
fi
install
configure
if [ "$start" = yes ]; then
    start_agent || say "it does not start by itself: \`wa agent run --headless\` starts it"
fi
case ":$PATH:" in
*":$(dirname "$link"):"*) ;;
*) say "add $(dirname "$link") to PATH, then \`wa\` is found" ;;
esac
say "$("$wa" --version) is in $environment"
