#!/usr/bin/env bash
# Three hosts with real nginx and one client, in network namespaces of this machine: a cluster is formed, the owner's
# nginx is killed, then the owner is cut off. Everything is removed at the end.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "the demo makes network namespaces: run it as root (sudo make demo)" >&2
    exit 1
fi
need=()
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || need+=(nginx-light)
command -v ip >/dev/null || need+=(iproute2)
command -v nft >/dev/null || [ -x /usr/sbin/nft ] || need+=(nftables)
if [ ${#need[@]} -gt 0 ]; then
    echo "installing ${need[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}" >/dev/null
fi

bin=${1:?usage: demo.sh DIRECTORY-OF-BINARIES}
haclusterd=$(realpath "$bin/haclusterd")
client=$(realpath "$bin/examples/vipclient")
dir=$(mktemp -d)
net=hldemo$$
pids=()

# A job by number, ended by process id only.
end() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }
cleanup() {
    for pid in "${pids[@]}"; do end "$pid"; done
    for i in 1 2 3; do
        [ -s "$dir/lb$i/nginx.pid" ] && kill "$(cat "$dir/lb$i/nginx.pid")" 2>/dev/null || true
    done
    for name in s c 1 2 3; do ip netns del "$net$name" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
on() { ip netns exec "$net$1" "${@:2}"; }
settings() { echo "HACLUSTERD_CONFIG=$dir/lb$1/haclusterd.toml HACLUSTERD_STATE_DIR=$dir/lb$1/state HACLUSTERD_SOCKET=$dir/lb$1/socket"; }
# Shown as an operator would type it on that host.
hacl() { local i=$1; shift; echo "lb$i\$ haclusterd $*" >&2; on "$i" env $(settings "$i") "$haclusterd" "$@"; }
daemon() { on "$1" env $(settings "$1") "$haclusterd" run >"$dir/lb$1/log" 2>&1 & daemon[$1]=$!; pids+=($!); }

say "three hosts, a client and a switch, in network namespaces"
ip netns add "${net}s"
ip -n "${net}s" link add br0 type bridge forward_delay 0 stp_state 0
ip -n "${net}s" link set br0 up
for i in 1 2 3 c; do
    ip netns add "$net$i"
    ip -n "${net}s" link add "p$i" type veth peer name eth0 netns "$net$i"
    ip -n "${net}s" link set "p$i" master br0 up
    ip -n "$net$i" link set lo up
    ip -n "$net$i" link set eth0 up
    ip -n "$net$i" address add "10.0.0.$([ $i = c ] && echo 10 || echo 1$i)/24" dev eth0
done
for i in 1 2 3; do
    mkdir -p "$dir/lb$i"
    cat >"$dir/lb$i/nginx.conf" <<CONF
user root; pid $dir/lb$i/nginx.pid; error_log $dir/lb$i/nginx.log; worker_processes 1; events {}
http { access_log off; server { listen 80; location / { return 200 'lb$i'; } } }
CONF
    on "$i" "$(command -v nginx || echo /usr/sbin/nginx)" -p "$dir/lb$i" -c "$dir/lb$i/nginx.conf"
done

say "lb1 begins the cluster"
hacl 1 init --name lb1 --listen 10.0.0.11 --interface eth0 --vip 10.0.0.100/24 --priority 150 \
    --nginx-pid "$dir/lb1/nginx.pid" --nginx-url http://127.0.0.1/
daemon 1
until on 1 env $(settings 1) "$haclusterd" status >/dev/null 2>&1 || [ $? -ne 3 ]; do sleep 0.1; done
for i in 2 3; do
    say "lb$i joins"
    hacl 1 token create --node "lb$i" --quiet >"$dir/token"
    hacl "$i" join 10.0.0.11 --token-file "$dir/token" --name "lb$i" --listen "10.0.0.1$i" --interface eth0 \
        --nginx-pid "$dir/lb$i/nginx.pid" --nginx-url http://127.0.0.1/
    daemon "$i"
done
for _ in $(seq 100); do
    on 2 env $(settings 2) "$haclusterd" status 2>/dev/null | grep -q "mode quorum" && break
    sleep 0.1
done
sleep 0.5
say "who is there, and who owns what"
hacl 1 members
hacl 1 status || true

# What a client sees of what "$2" does.
watch_client() {
    say "$1"
    mkfifo "$dir/end"
    on c "$client" 10.0.0.100:80 <"$dir/end" >"$dir/seen" &
    local asking=$!
    exec 9>"$dir/end"
    sleep 1
    "$2"
    sleep 3
    exec 9>&-
    wait "$asking"
    rm "$dir/end"
    cat "$dir/seen"
}
kill_nginx() { echo "lb1\$ kill -9 nginx"; kill -9 $(cat "$dir/lb1/nginx.pid") $(pgrep -P "$(cat "$dir/lb1/nginx.pid")"); }
cut_off() {
    echo "switch\$ (drops everything from and to lb2, silently)"
    on s nft 'table bridge cut { chain f { type filter hook forward priority 0; iifname "p2" drop; oifname "p2" drop; }; }'
}
watch_client "the owner's nginx is killed" kill_nginx
hacl 3 status || true
watch_client "the new owner is cut off from the network" cut_off
hacl 3 members
hacl 3 status || true
say "cleaning up"
