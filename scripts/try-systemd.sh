#!/usr/bin/env bash
# Tries running work where systemd does the caging: a fresh Debian that systemd has booted, in a container of its own, with the
# daemon and its external worker as the units have them. Needs root, debootstrap, systemd-container, and what is built.
#
#   scripts/try-systemd.sh [FOLDER]
#
# FOLDER keeps the bare system between runs (scripts/try-debian.sh can use the same). What is tried: a run is in a transient
# unit with its limits and of its user; it outlives worker and daemon; what ignores SIGTERM in a session of its own is ended
# with it; a holder that dies takes its run along; a run that takes more memory than it asked for is ended; and the daemon
# itself, which has NoNewPrivileges there, refuses to start what runs.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-$(mktemp -d)}
base=$folder/base
root=$folder/root
mkdir -p "$folder"
if [ ! -e "$base/etc/debian_version" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,libstdc++6 bookworm "$base" >"$folder/debootstrap.log"
fi
rm -rf "$root"
cp -a "$base" "$root"
mkdir -p "$root/opt/gpu-orchestrator/bin" "$root/etc/gpu-orchestrator" "$root/usr/lib/sysusers.d"
cp "$(node -p process.execPath)" "$root/opt/gpu-orchestrator/bin/node"
cp -r dist package.json "$root/opt/gpu-orchestrator/"
cp deploy/systemd/*.service "$root/etc/systemd/system/"
cp deploy/systemd/gpu-orchestrator.sysusers.conf "$root/usr/lib/sysusers.d/gpu-orchestrator.conf"

cat >"$root/etc/gpu-orchestrator/config.yaml" <<'YAML'
auth: {enabled: true, api_keys: {a-key-of-the-test-000000: {principal: ada, role: run}}}
work:
  enabled: true
  worker: external
  cage: systemd
  dir: /var/lib/gpu-orchestrator/data/work
  run_as: {ada: ada}
  executors: {sh: {type: process, programs: [/bin/sh]}}
  task_types: {job: sh}
YAML

cat >"$root/root/try.sh" <<'TRY'
#!/bin/bash
# Runs in the container; each line says what is seen.
set -euo pipefail
fail() { echo "FAILED: $1"; journalctl -u gpu-orchestrator -u gpu-orchestrator-worker --no-pager | tail -40; exit 1; }
until_true() { for _ in $(seq 300); do if eval "$1"; then return 0; fi; sleep 0.2; done; fail "$2"; }
export PATH=/opt/gpu-orchestrator/bin:$PATH GPU_ORCHESTRATOR_API_KEY=a-key-of-the-test-000000
gpuo() { node /opt/gpu-orchestrator/dist/gpu-orchestrator.js "$@"; }
submit() { # the script of a task, and more of its spec
  node -e 'const [script, more] = process.argv.slice(1); console.log(JSON.stringify({ apiVersion: "gpu-orchestrator/v1",
    kind: "Task", metadata: { name: "try" }, spec: { taskType: "job", command: ["/bin/sh", "-c", script], stop: { grace: "2s" },
    ...JSON.parse(more) } }))' "$1" "${2:-{\}}" >/tmp/task.json
  gpuo submit /tmp/task.json | grep -o 'task-[A-Za-z0-9-]*' | head -1
}
GPU='{"resources":{"hardware":{"gpu":{"count":1},"cpu":"500m","memory":"256Mi"}}}'

systemd-sysusers
useradd --create-home ada
chgrp gpu-orchestrator /etc/gpu-orchestrator/config.yaml && chmod 640 /etc/gpu-orchestrator/config.yaml
for unit in gpu-orchestrator gpu-orchestrator-worker; do
  mkdir -p "/etc/systemd/system/$unit.service.d"
  command=$(sed -n 's/^ExecStart=//p' "/etc/systemd/system/$unit.service")
  # There is no GPU here.
  printf '[Service]\nExecStart=\nExecStart=%s --simulate h100x2\n' "$command" >"/etc/systemd/system/$unit.service.d/simulated.conf"
done
systemctl daemon-reload
systemctl start gpu-orchestrator gpu-orchestrator-worker || fail "the units do not start"
until_true 'gpuo workers 2>/dev/null | grep -q IDLE' "the worker does not report"
gpuo workers --json | grep -o '"cage":"[a-z]*"'
gpuo workers --json | grep -q '"cage":"systemd"' || fail "the cage is not systemd"

echo "== a run is in a transient unit, with its limits, of its user"
id=$(submit 'trap "" TERM; setsid sh -c "trap \"\" TERM; while :; do sleep 1; done" & while :; do sleep 1; done' "$GPU")
until_true '[ -n "$(systemctl list-units --no-legend --plain "go-run-*.service")" ]' "no transient unit"
unit=$(systemctl list-units --no-legend --plain 'go-run-*.service' | awk '{print $1}')
systemctl show "$unit" -p Slice -p MemoryMax -p CPUQuotaPerSecUSec -p TasksMax -p KillMode
systemctl show "$unit" -p MemoryMax | grep -q "=$((256 * 1024 * 1024))\$" || fail "its memory has no limit"
systemctl show "$unit" -p Slice | grep -q '=gpu-orchestrator-runs.slice$' || fail "it is in another slice"
until_true '[ "$(pgrep -u ada -c sleep)" -ge 2 ]' "it does not run as ada"
pids=$(pgrep -u ada sh | sort | tr '\n' ' ')
echo "of ada: $pids"

echo "== it outlives worker and daemon"
worker=$(systemctl show -p MainPID --value gpu-orchestrator-worker)
systemctl kill -s KILL gpu-orchestrator-worker
until_true '[ "$(systemctl show -p MainPID --value gpu-orchestrator-worker)" != "$worker" ] && systemctl is-active -q gpu-orchestrator-worker' "the worker does not come back"
systemctl kill -s KILL gpu-orchestrator
until_true 'gpuo workers 2>/dev/null | grep -q RUNNING' "the daemon does not come back with its worker"
[ "$(pgrep -u ada sh | sort | tr '\n' ' ')" = "$pids" ] || fail "the run did not go on"
gpuo ps

echo "== all of it is ended, and the GPU comes back"
gpuo stop "$id"
until_true '! pgrep -u ada >/dev/null' "something of it is left"
until_true '[ -z "$(systemctl list-units --no-legend --plain "go-run-*.service")" ]' "its unit is left"
until_true 'gpuo status | grep -q "2 of 2 free"' "the GPU did not come back"

echo "== a holder that dies takes its run along"
id=$(submit 'while :; do sleep 1; done' "$GPU")
until_true '[ "$(pgrep -u ada -c sh)" -ge 1 ]' "the second does not run"
unit=$(systemctl list-units --no-legend --plain 'go-run-*.service' | awk '{print $1}')
kill -9 "$(systemctl show -p MainPID --value "$unit")"
until_true '! pgrep -u ada >/dev/null' "the run goes on without its holder"
until_true 'gpuo ps --all | grep "$id" | grep -q "lost: its holder died"' "it is not told as lost"
until_true 'gpuo status | grep -q "2 of 2 free"' "the GPU did not come back after the holder's death"

echo "== a run that takes more memory than it asked for is ended, and is told to have run out of it"
id=$(submit 'head -c 900000000 /dev/zero | tail -c 900000000 >/dev/null; exit $?' "$GPU")
until_true 'gpuo ps --all | grep "$id" | grep -Eq "FAILED|DONE"' "it has not ended"
gpuo ps --all | grep "$id"
# Of control groups of version 1 a container of this kind may read, and no more: there is no limit then.
if systemd-run --wait --quiet -p MemoryMax=64M sh -c 'head -c 300000000 /dev/zero | tail -c 300000000 >/dev/null; exit $?'; then
  grep -l '"limits":\[[^]]*memory' /var/lib/gpu-orchestrator/data/work/runs/*/holder.json && fail "a run says that memory is limited, and it is not"
  echo "nothing limits memory in this container: not seen"
else
  gpuo ps --all | grep "$id" | grep -q "oom" || fail "it is not told as out of memory"
fi
until_true 'gpuo status | grep -q "2 of 2 free"' "the GPU did not come back after it"

echo "== NoNewPrivileges: the daemon does not start what runs"
sed 's/worker: external/worker: embedded/' /etc/gpu-orchestrator/config.yaml >/tmp/embedded.yaml
set +e
systemd-run --wait --quiet --pipe -p NoNewPrivileges=yes -E PATH="$PATH" node /opt/gpu-orchestrator/dist/gpu-orchestrator.js check-config /tmp/embedded.yaml
code=$?
set -e
[ "$code" = 78 ] || fail "it takes embedded under NoNewPrivileges: $code"
grep -h '^NoNewPrivs' "/proc/$(systemctl show -p MainPID --value gpu-orchestrator)/status"
echo PASSED
TRY

cat >"$root/etc/systemd/system/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /root/try.sh
StandardOutput=file:/root/try.log
StandardError=inherit
ExecStopPost=/bin/systemctl poweroff --no-block
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -sf /etc/systemd/system/try.service "$root/etc/systemd/system/default.target.wants/try.service"
rm -f "$root/usr/sbin/policy-rc.d"
# Loopback of its own: a daemon of this machine is not in the way.
timeout --kill-after=10 "${TRY_SECONDS:-300}" systemd-nspawn --quiet --register=no --keep-unit --private-network --boot -D "$root" >"$folder/boot.log" 2>&1 || true
cat "$root/root/try.log"
grep -q '^PASSED$' "$root/root/try.log"
