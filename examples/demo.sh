#!/bin/bash
# Shows remoteboot at work: three bare machines, each booted over the network
# with a command line of its own; then a group of machines that grows, shrinks and
# is updated, by calls that are those of InfraKit's group controller.
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
    local ids=()
    provision "$bios" vmlinuz initrd "console=ttyS0 lab={{ mac }} role=database report={{ report }}"
    ids+=("$answered_id")
    provision "$uefi" vmlinuz initrd "console=ttyS0 lab={{ mac }} role=web report={{ report }}"
    ids+=("$answered_id")

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

    heading "Destroy both x86-64 instances: their machines are told, and come back to the pool"
    local id number
    power_on 4 bios-chain 52:54:00:77:00:04
    for number in 1 2; do wait_for $number '^REMOTEBOOT told=/ready'; done
    for id in "${ids[@]}"; do
        ask Instance.Destroy "$(jq -cn --arg id "$id" '{Type: "", Instance: $id, Context: {Reason: "terminate"}}')"
        echo "Instance.Destroy $id: $(jq -c .result <<<"$answer")"
    done
    for number in 1 2; do
        wait_for $number '^REMOTEBOOT gone terminate'
        echo "machine $number says: $(console $number | grep -a '^REMOTEBOOT gone'), and starts again"
    done
    for number in 1 2 4; do
        turn_the_page $number
        wait_for $number 'waits to be provisioned'
    done
    echo "machines 1, 2 and 4 wait in the hold script:"
    ask Machine.List '{"State": "held"}'
    jq -r '.result.Machines[] | "    \(.mac) \(.state) \(.arch)"' <<<"$answer"

    heading "A group of x86-64 machines, by the calls of InfraKit's group controller: 0 -> 2"
    describe_group initrd 1
    scale 2
    heading "2 -> 3"
    scale 3
    heading "3 -> 1: the oldest are asked to stop, destroyed, and start again"
    scale 1
    heading "A rolling update to image b: drain, destroy, and the machine is installed again"
    describe_group initrd-b 2
    roll
    heading "As InfraKit sees it now"
    call Instance.DescribeInstances '{"Type":"","Tags":{},"Properties":false}'
    [ "$(jq '.result.Descriptions | length' <<<"$answer")" = 2 ] || fail "there are not two instances"

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

# The same and shows nothing.
ask() {
    try "$@"
    [ "$refusal" = "" ] || fail "$1 was refused: $refusal"
}

# The same, and leaves the error's message in `refusal`, if it is one.
try() {
    local method=$1 parameters=$2 body
    body=$(jq -cn --arg method "$method" --argjson params "$parameters" \
        '{jsonrpc: "2.0", method: $method, params: $params, id: 1}')
    answer=$(curl -sS --max-time 15 --unix-socket "$folder/plugins/remoteboot" \
        -H 'Content-Type: application/json' -d "$body" http://h/) || fail "$method was not answered"
    refusal=$(jq -r '.error.message // empty' <<<"$answer")
}

# What the members of the group shall be: this initrd, this release.
describe_group() {
    instance=$(jq -cn --arg initrd "$1" '{Kernel: "vmlinuz", Initrd: $initrd,
        CmdLine: "console=ttyS0 lab={{ mac }} report={{ report }}", Select: {Arch: ["bios", "x64-uefi"]}}')
    flavor=$(jq -cn --arg release "$2" '{Init: ["#!/bin/sh", "echo worker"],
        CmdLine: "role=worker-{{ index }} release=\($release)"}')
    hash=$(sha1sum <<<"$instance $flavor" | cut -c1-32)
    expected_marker=a
    [ "$1" = initrd ] || expected_marker=b
}

# Leaves the members in `members`, the lowest ID first.
look() {
    ask Instance.DescribeInstances '{"Type": "", "Tags": {"infrakit.group": "workers"}, "Properties": true}'
    members=$(jq -c '.result.Descriptions | sort_by(.ID)' <<<"$answer")
}

# One turn of the controller's loop: as many members as there shall be.
converge() {
    local size=$1 spec id
    look
    while [ "$(jq length <<<"$members")" -lt "$size" ]; do
        spec=$(jq -cn --argjson instance "$instance" --arg hash "$hash" '{Properties: $instance, Init: "",
            Tags: {"infrakit.group": "workers", "infrakit.config.hash": $hash}, LogicalID: null, Attachments: null}')
        ask Flavor.Prepare "$(jq -cn --argjson spec "$spec" --argjson flavor "$flavor" --argjson size "$size" \
            '{Type: "", Properties: $flavor, Spec: $spec, Allocation: {Size: $size, LogicalIDs: null},
            Index: {Group: "workers", Sequence: $size}}')"
        try Instance.Provision "$(jq -c '{Type: "", Spec: .result.Spec}' <<<"$answer")"
        if [[ "$refusal" == "no free machine"* ]]; then
            # As the controller does: it is asked for again at the next poll.
            [ "$refusal" = "${told:-}" ] || echo "Instance.Provision: $refusal (none waits yet; again)"
            told=$refusal
            return 0
        fi
        [ "$refusal" = "" ] || fail "Instance.Provision was refused: $refusal"
        told=
        echo "Flavor.Prepare, Instance.Provision: $(jq -r .result.ID <<<"$answer")"
        look
    done
    while [ "$(jq length <<<"$members")" -gt "$size" ]; do
        retire "$(jq -c '.[0]' <<<"$members")" terminate
        look
    done
}

# Has a member stop its work, and destroys it.
retire() {
    local member=$1 reason=$2 id number
    id=$(jq -r .ID <<<"$member")
    number=$(number_of "$member")
    ask Flavor.Drain "$(jq -cn --argjson flavor "$flavor" --argjson member "$member" \
        '{Type: "", Properties: $flavor, Instance: $member}')"
    wait_for "$number" '^REMOTEBOOT told=/drained'
    ask Instance.Destroy "$(jq -cn --arg id "$id" --arg reason "$reason" \
        '{Type: "", Instance: $id, Context: {Reason: $reason}}')"
    echo "Flavor.Drain, Instance.Destroy ($reason): $id; machine $number has stopped its work"
    wait_for "$number" "^REMOTEBOOT gone $reason"
    turn_the_page "$number"
}

# Polls until the group has so many members and each is healthy.
scale() {
    local size=$1 end=$((SECONDS + patience)) member health
    while :; do
        converge "$size"
        health=$(jq -r '.[] | @json' <<<"$members" | while read -r member; do
            ask Flavor.Healthy "$(jq -cn --argjson flavor "$flavor" --argjson member "$member" \
                '{Type: "", Properties: $flavor, Instance: $member}')"
            jq -r .result.Health <<<"$answer"
        done | sort | uniq -c | xargs)
        [ "$health" != "$size 1" ] || break
        [ "$SECONDS" -lt "$end" ] || fail "the group did not become healthy (count and health: $health)"
        sleep 1
    done
    look
    echo "Flavor.Healthy: all $size"
    jq -r '.[] | "    \(.ID) \(.Properties.mac) \(.Properties.ip) \(.Properties.state) worker-\(.Properties.index)"' <<<"$members"
    while read -r member; do
        show_member "$member"
    done < <(jq -c '.[]' <<<"$members")
}

# What the machine of a member says on its own console.
show_member() {
    local number cmdline
    number=$(number_of "$1")
    wait_for "$number" '^REMOTEBOOT told=/ready'
    cmdline=$(console "$number" | sed -n 's/^REMOTEBOOT cmdline=//p' | tail -1)
    console "$number" | grep -ax "REMOTEBOOT marker=$expected_marker" >/dev/null || fail "machine $number has not booted image $expected_marker"
    echo "    machine $number runs image $expected_marker: $(sed 's/ report=[^ ]*/ report=.../; s/^initrd=[^ ]* //' <<<"$cmdline")"
}

# The update of the whole group, one member after the other.
roll() {
    local size old
    look
    size=$(jq length <<<"$members")
    while old=$(jq -ce --arg hash "$hash" 'map(select(.Tags["infrakit.config.hash"] != $hash))[0]' <<<"$members"); do
        retire "$old" rolling_update
        scale "$size"
    done
}

# The number of a member's machine, the last of its address.
number_of() { jq -r '.Properties.mac[-1:]' <<<"$1"; }

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
        provision "$1" vmlinuz-arm64 initrd-arm64 "console=ttyAMA0 lab={{ mac }} role=cache report={{ report }}"
    else
        provision "$1" vmlinuz initrd "console=ttyS0 lab={{ mac }} role=cache report={{ report }}"
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

# What a machine prints from here on is all that counts: it starts again.
turn_the_page() {
    begins[$1]=$(($(stat -c %s "$folder/machine$1/console") + 1))
    powered_on[$1]=$SECONDS
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
else
    outside
fi
