#!/bin/bash
# Shows remoteboot at work: three bare machines, each booted over the network
# with a command line of its own, and one of them booted again into a new image.
#
#   examples/demo.sh            (or `make demo`)
#
# It builds the daemon first, unless REMOTEBOOT names one that is built.
# Everything happens in a private network that has no way out, with machines
# that QEMU emulates. What is shown as a machine's command line is read from that
# machine's own console. The script ends with an error if any step does not come
# out as promised, and leaves nothing behind.

set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
cache=${REMOTEBOOT_LAB:-$repository/target/lab}
# The longest one machine may take, in seconds. Alone it takes about 25.
patience=150

outside() {
    heading "Getting ready: tools, firmware and boot images"
    "$repository/tests/lab/install"
    if [ -n "${REMOTEBOOT:-}" ]; then
        remoteboot=$REMOTEBOOT
    else
        heading "Building remoteboot"
        (cd "$repository" && cargo build --bin remoteboot)
        remoteboot=$(cd "$repository" && cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/debug/remoteboot
    fi
    [ -x "$remoteboot" ] || fail "there is no program $remoteboot"

    [ -w /dev/net/tun ] || fail "it cannot make a private network (/dev/net/tun): run it as root"
    folder=$(mktemp -d "${TMPDIR:-/tmp}/remoteboot-demo.XXXXXX")
    stage=
    trap tidy EXIT
    trap 'exit 130' INT TERM HUP
    # The first process of a process namespace takes all others with it when it
    # ends, and the network goes with the last of them. And it ends when this does.
    local own=(setpriv --pdeathsig KILL unshare --net --pid --fork --kill-child)
    [ "$(id -u)" = 0 ] || own+=(--user --map-root-user)
    "${own[@]}" "$0" --inside "$folder" "$remoteboot" &
    stage=$!
    local outcome=0
    wait "$stage" || outcome=$?
    exit "$outcome"
}

tidy() {
    if [ -n "$stage" ]; then
        kill -KILL "$stage" 2>/dev/null || true
        wait "$stage" 2>/dev/null || true
    fi
    # What is being killed may still have written.
    rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
}

inside() {
    folder=$1 remoteboot=$2
    started=$SECONDS

    heading "A private network: the bridge br0, 10.77.0.1/24, and no way out"
    ip link set lo up
    ip link add br0 type bridge
    ip link set br0 address 02:00:00:00:00:01
    ip addr add 10.77.0.1/24 dev br0
    ip link set br0 up
    ip -brief addr show

    collect_images
    start_daemon

    heading "Provision: what should machine 1 and machine 2 run?"
    local bios=52:54:00:77:00:01 uefi=52:54:00:77:00:02 third=52:54:00:77:00:03
    provision "$bios" vmlinuz initrd "console=ttyS0 lab={{ mac }} role=database"
    provision "$uefi" vmlinuz initrd "console=ttyS0 lab={{ mac }} role=web"
    local first=$answered_id

    heading "Power on: three bare machines at once, nothing on their disks (they have none)"
    local kind=arm64-uefi-pxe expected_arch=aarch64
    if [ ! -e "$folder/images/vmlinuz-arm64" ]; then
        kind=uefi-http expected_arch=x86_64
        echo "(no arm64 packages on this system's mirrors: the third is x86-64 by HTTP Boot)"
    fi
    power_on 1 bios-ipxe-rom "$bios"
    power_on 2 uefi-pxe "$uefi"
    power_on 3 "$kind" "$third"

    heading "Machine 3 is not provisioned: it is held, with its power on"
    wait_for 3 'http://10.77.0.1'
    sleep 2
    console 3 | grep -a REMOTEBOOT && fail "machine 3 has booted something"
    echo "the end of its console:"
    plain_console 3 | tail -5 | sed 's/^/    /'
    heading "Now it is provisioned, and boots without a power cycle"
    provision_third "$third" "$kind"

    heading "Each machine's own command line, from its own console"
    report 1 "$bios" x86_64 a
    report 2 "$uefi" x86_64 a
    report 3 "$third" "$expected_arch" a

    heading "Destroy machine 2, provision it again with image b, press reset"
    call Instance.Destroy "$(jq -cn --arg id "$first" '{Type: "", Instance: $id, Context: {Reason: "terminate"}}')"
    [ "$(jq -r .result.OK <<<"$answer")" = true ] || fail "Destroy did not say OK"
    provision "$uefi" vmlinuz initrd-b "console=ttyS0 lab={{ mac }} role=web release=2"
    [ "$answered_id" != "$first" ] || fail "the new instance has the old one's ID"
    reset 2
    report 2 "$uefi" x86_64 b

    heading "As InfraKit sees it now"
    call Instance.DescribeInstances '{"Type":"","Tags":{},"Properties":false}'
    [ "$(jq '.result.Descriptions | length' <<<"$answer")" = 3 ] || fail "there are not three instances"

    heading "Done in $((SECONDS - started)) seconds: every machine booted what it was told to"
}

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

fail() {
    printf '\nThe demo failed: %s\n' "$*" >&2
    if [ -n "${folder:-}" ] && [ -s "$folder/log" ]; then
        printf -- '--- the end of the daemon'\''s log\n' >&2
        tail -30 "$folder/log" >&2
    fi
    exit 1
}

# The boot files of all architectures side by side, as the daemon serves them.
collect_images() {
    local architecture suffix
    mkdir "$folder/images"
    for architecture in amd64 arm64; do
        suffix=
        [ "$architecture" = amd64 ] || suffix=-arm64
        [ -d "$cache/images/$architecture" ] || continue
        cp "$cache/images/$architecture/vmlinuz" "$folder/images/vmlinuz$suffix"
        cp "$cache/images/$architecture/initrd-a" "$folder/images/initrd$suffix"
        cp "$cache/images/$architecture/initrd-b" "$folder/images/initrd-b$suffix"
    done
}

start_daemon() {
    heading "The daemon"
    mkdir "$folder/state" "$folder/plugins"
    local arguments=(--adapter br0 --startAddress 10.77.0.100 --leaseCount 50
        --enableDHCP --enableTFTP --enableHTTP
        --images "$folder/images" --state-dir "$folder/state" --ipxe-dir "$cache/loaders/best")
    echo "$ remoteboot ${arguments[*]}"
    INFRAKIT_PLUGINS_DIR="$folder/plugins" "$remoteboot" "${arguments[@]}" >"$folder/log" 2>&1 &
    daemon=$!
    local turn
    for turn in $(seq 200); do
        if curl -s -o /dev/null --unix-socket "$folder/plugins/remoteboot" http://h/; then
            echo "its socket is there: $folder/plugins/remoteboot"
            return 0
        fi
        kill -0 "$daemon" 2>/dev/null || fail "the daemon ended at once"
        sleep 0.1
    done
    fail "the daemon's socket does not answer"
}

# Calls a method, shows the call and the answer, and leaves it in `answer`.
call() {
    local method=$1 parameters=$2 body
    body=$(jq -cn --arg method "$method" --argjson params "$parameters" \
        '{jsonrpc: "2.0", method: $method, params: $params, id: 1}')
    echo "$ curl --unix-socket .../remoteboot -H 'Content-Type: application/json' http://h/ -d '$body'"
    answer=$(curl -sS --max-time 15 --unix-socket "$folder/plugins/remoteboot" \
        -H 'Content-Type: application/json' -d "$body" http://h/) || fail "$method was not answered"
    jq . <<<"$answer" || fail "$method was answered with no JSON: $answer"
    [ "$(jq -r '.error // empty' <<<"$answer")" = "" ] || fail "$method was refused"
}

# Provisions a machine, and leaves the instance's ID in `answered_id`.
provision() {
    local mac=$1 kernel=$2 initrd=$3 cmdline=$4
    call Instance.Provision "$(jq -cn --arg mac "$mac" --arg kernel "$kernel" --arg initrd "$initrd" \
        --arg cmdline "$cmdline" '{Type: "", Spec: {
            Properties: {Kernel: $kernel, Initrd: $initrd, CmdLine: $cmdline, MAC: $mac},
            Tags: {}, Init: "", LogicalID: null, Attachments: null}}')"
    answered_id=$(jq -r '.result.ID // empty' <<<"$answer")
    [ -n "$answered_id" ] || fail "Provision gave no ID"
}

provision_third() {
    if [ "$2" = arm64-uefi-pxe ]; then
        provision "$1" vmlinuz-arm64 initrd-arm64 "console=ttyAMA0 lab={{ mac }} role=cache"
    else
        provision "$1" vmlinuz initrd "console=ttyS0 lab={{ mac }} role=cache"
    fi
}

power_on() {
    local number=$1 firmware=$2 mac=$3
    begins[number]=1
    powered_on[number]=$SECONDS
    mkdir "$folder/machine$number"
    "$repository/tests/lab/machine" "$firmware" "$mac" "$folder/machine$number" \
        >"$folder/machine$number/complaints" 2>&1 </dev/null &
    machines[number]=$!
    echo "machine $number: $firmware, $mac"
}

# What a machine has printed since it was powered on or reset.
console() {
    tail -c "+${begins[$1]}" "$folder/machine$1/console" 2>/dev/null | tr -d '\r' || true
}

# The same for a person to read: without what moves the cursor, or is blank.
plain_console() {
    console "$1" | sed 's/\x1b\[[0-9;=?]*[A-Za-z]//g' | grep -a '[^[:space:]]'
}

# Waits until a machine has printed a line that matches.
wait_for() {
    local number=$1 pattern=$2 end=$((SECONDS + patience))
    until console "$number" | grep -a "$pattern" >/dev/null; do
        if ! kill -0 "${machines[$number]}" 2>/dev/null; then
            cat "$folder/machine$number/complaints" >&2
            fail "machine $number is off"
        fi
        if [ "$SECONDS" -gt "$end" ]; then
            console "$number" | tail -25 >&2
            fail "machine $number did not print '$pattern' in $patience s"
        fi
        sleep 0.2
    done
}

# Shows what the system that a machine has booted says, and compares it.
report() {
    local number=$1 mac=$2 arch=$3 marker=$4 text
    wait_for "$number" '^REMOTEBOOT end'
    text=$(console "$number" | sed -n 's/^REMOTEBOOT //p')
    echo "machine $number, $((SECONDS - powered_on[number])) s after power-on or reset:"
    grep -E '^(cmdline|mac|arch|marker)=' <<<"$text" | sed 's/^/    /'
    grep "^cmdline=.*lab=$mac\( \|$\)" <<<"$text" >/dev/null || fail "machine $number has not its own command line"
    grep -x "mac=$mac" <<<"$text" >/dev/null || fail "machine $number has another address"
    grep -x "arch=$arch" <<<"$text" >/dev/null || fail "machine $number is no $arch"
    grep -x "marker=$marker" <<<"$text" >/dev/null || fail "machine $number has not booted image $marker"
}

reset() {
    local number=$1
    begins[number]=$(($(stat -c %s "$folder/machine$number/console") + 1))
    powered_on[number]=$SECONDS
    echo system_reset 1<>"$folder/machine$number/buttons.in"
    echo "machine $number: reset"
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
else
    outside
fi
