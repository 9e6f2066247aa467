#!/usr/bin/env bash
# Three hosts with real nginx and one client, in network namespaces: a cluster is formed, the owner's nginx is killed,
# then the new owner is cut off. Usage: demo.sh DIRECTORY-OF-BINARIES (make demo builds them).
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

if [ "$(id -u)" -ne 0 ]; then
    echo "the demo makes network namespaces: run it as root (sudo make demo)" >&2
    exit 1
fi
bin=$(realpath "${1:?usage: demo.sh DIRECTORY-OF-BINARIES}")

need=()
for tool in nginx:nginx-light ip:iproute2 nft:nftables pgrep:procps; do
    command -v "${tool%:*}" >/dev/null || need+=("${tool#*:}")
done
if [ ${#need[@]} -gt 0 ]; then
    echo "installing ${need[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}" >/dev/null
fi

# In namespaces of its own: its processes, networks and files end with it, however it ends.
if [ -z "${DEMO_INSIDE-}" ]; then
    DEMO_INSIDE=yes exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$bin"
fi
mount -t tmpfs tmpfs /run
cd /run
# It is process 1 there, which no signal ends unasked.
trap 'exit 130' INT TERM

# Commands are shown here even where their output goes to a file.
exec 3>&1
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command as one would type it there, and runs it.
at() { printf '%s$ %s\n' "$1" "${*:2}" >&3; ip netns exec "$1" "${@:2}"; }
quietly_at() { ip netns exec "$1" "${@:2}"; }

# The same for haclusterd on a host: the three differ by their files only.
files() { printf 'HACLUSTERD_CONFIG=%s/haclusterd.toml HACLUSTERD_STATE_DIR=%s/state HACLUSTERD_SOCKET=%s/socket' "$1" "$1" "$1"; }
haclusterd() { printf '%s$ haclusterd %s\n' "$1" "${*:2}" >&3; quietly "$@"; }
quietly() { ip netns exec "$1" env $(files "$1") "$bin/haclusterd" "${@:2}"; }
start() { printf '%s$ haclusterd run &\n' "$1"; quietly "$1" run >"$1/log" 2>&1 & }

say "Three hosts and a client on a switch, each a network namespace"
ip netns add switch
ip -n switch link add br0 type bridge forward_delay 0 stp_state 0
ip -n switch link set br0 up
plug() {
    ip netns add "$1"
    ip -n switch link add "to-$1" type veth peer name eth0 netns "$1"
    ip -n switch link set "to-$1" master br0 up
    ip -n "$1" link set lo up
    ip -n "$1" link set eth0 up
    ip -n "$1" address add "$2/24" dev eth0
    printf '%-6s %s\n' "$1" "$2"
}
plug client 10.0.0.10
for i in 1 2 3; do
    plug "lb$i" "10.0.0.1$i"
    mkdir "lb$i"
    cat >"lb$i/nginx.conf" <<CONF
user root; pid $PWD/lb$i/nginx.pid; error_log $PWD/lb$i/nginx.log; worker_processes 1; events {}
http { access_log off; server { listen 80; location / { return 200 lb$i; } } }
CONF
    quietly_at "lb$i" nginx -p "$PWD/lb$i" -c "$PWD/lb$i/nginx.conf"
done

say "lb1 begins the cluster"
node() { echo "--name lb$1 --listen 10.0.0.1$1 --interface eth0 --nginx-pid $PWD/lb$1/nginx.pid --nginx-url http://127.0.0.1/"; }
haclusterd lb1 init $(node 1) --vip 10.0.0.100/24 --priority 150
start lb1
until [ -S lb1/socket ]; do sleep 0.1; done

for i in 2 3; do
    say "lb$i joins with a token that works once"
    haclusterd lb1 token create --node "lb$i" --quiet >token
    haclusterd "lb$i" join 10.0.0.11 --token-file token $(node "$i")
    start "lb$i"
done
is_well() { quietly lb1 status 2>/dev/null | grep -q "mode quorum" && quietly lb1 status >/dev/null; }
for _ in $(seq 150); do is_well && break; sleep 0.1; done

say "Who is there, and who owns what"
haclusterd lb1 members
haclusterd lb1 status

# What the client sees, which asks the VIP all the time, of a fault.
suffer() {
    mkfifo end
    quietly_at client "$bin/examples/vipclient" 10.0.0.100:80 <end >seen &
    exec 9>end
    sleep 1
    "$@"
    sleep 3
    exec 9>&-
    wait $!
    rm end
    cat seen
}

# As lb1 sees it, which is never cut off.
owner() { { quietly lb1 status -o json || true; } | sed -n 's/.*"owner": *"\([^"]*\)".*/\1/p'; }

say "The nginx of lb1, the owner, is killed, while the client asks"
kill_nginx() {
    local master
    master=$(cat lb1/nginx.pid)
    at lb1 kill -9 "$master" $(pgrep -P "$master")
}
suffer kill_nginx
haclusterd lb1 status || true

cut=$(owner)
say "$cut, the new owner, is cut off: the switch drops all that it sends or should get, and tells nobody"
suffer at switch nft "table bridge cut { chain both { type filter hook forward priority 0;
    iifname to-$cut drop; oifname to-$cut drop; }; }"
haclusterd lb1 members
haclusterd lb1 status || true
say "That is all; nothing of it is left."
