#!/usr/bin/env bash
# Tries the Debian package as a new user has it: in a fresh Debian that systemd has booted, in a container of its own.
# Needs root, debootstrap, systemd-container, and the Debian packages of the configured mirror.
#
#   scripts/try-debian.sh PACKAGE.deb [FOLDER [WHEEL]]
#
# FOLDER keeps the bare system between runs. What is tried: install, a job by `gpuo run`, what status and queue show, an
# upgrade while a job has a lease, everything killed and the GPUs back; with the Python SDK's WHEEL the same from a notebook's
# kernel; remove, install again, and purge.
set -euo pipefail

package=$(readlink -f "$1")
folder=${2:-$(mktemp -d)}
wheel=${3:-}
base=$folder/base
root=$folder/root
mkdir -p "$folder"
if [ ! -e "$base/etc/debian_version" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,libstdc++6,python3-ipykernel,python3-jupyter-client bookworm "$base" >"$folder/debootstrap.log"
fi
rm -rf "$root"
cp -a "$base" "$root"

# The same program with a higher version, to upgrade to.
unpacked=$folder/unpacked
rm -rf "$unpacked"
dpkg-deb -R "$package" "$unpacked"
version=$(sed -n 's/^Version: //p' "$unpacked/DEBIAN/control")
sed -i "s/^Version: .*/Version: $version+next/" "$unpacked/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$unpacked" "$root/root/next.deb" >/dev/null
cp "$package" "$root/root/this.deb"
if [ -n "$wheel" ]; then cp "$wheel" "$root/opt/gpuo.whl"; fi

# What a notebook does: cells in a kernel of its own. The first leases, the second has the GPUs still; then it is killed.
cat >"$root/opt/notebook.py" <<'NOTEBOOK'
import os
import signal
import sys
from jupyter_client.manager import KernelManager

kernel = KernelManager()
kernel.start_kernel(env={**os.environ, "PYTHONPATH": "/opt/gpuo.whl"})
client = kernel.client()
client.start_channels()
client.wait_for_ready(timeout=60)


def cell(source):
    said = []
    heard = lambda message: said.append(message["content"].get("text", "")) if message["msg_type"] == "stream" else None
    reply = client.execute_interactive(source, timeout=60, output_hook=heard)["content"]
    if reply["status"] != "ok":
        sys.exit(f"{source}: {reply}")
    return "".join(said).strip()


print("in a notebook: " + cell("from gpuo import gpus\nlease = gpus(2, ttl=5, name='notebook').acquire()\nprint(lease.id)"))
print(cell("import os, time\ntime.sleep(8)\nlease.check()\nprint(os.environ['CUDA_VISIBLE_DEVICES'])"))
sys.stdout.flush()
open("/tmp/notebook", "w").write(cell("print(os.getpid())"))
signal.pause()
NOTEBOOK

cat >"$root/root/try.sh" <<'TRY'
#!/bin/bash
# Runs in the container; each line says what is seen.
set -euo pipefail
fail() { echo "FAILED: $1"; journalctl -u gpu-orchestrator --no-pager | tail -20; exit 1; }
until_true() { for _ in $(seq 150); do if eval "$1"; then return 0; fi; sleep 0.2; done; fail "$2"; }

dpkg -i /root/this.deb >/dev/null
systemctl is-active --quiet gpu-orchestrator || fail "the daemon does not run after the install"
systemctl is-enabled --quiet gpu-orchestrator || fail "the daemon is not enabled"
[ "$(stat -c '%a %U %G' /etc/gpu-orchestrator/config.yaml)" = "640 root gpu-orchestrator" ] || fail "who may read the settings"
echo "installed: $(gpuo --version), $(systemctl show -p MainPID --value gpu-orchestrator) serves"

# There is no GPU here: simulated ones, by the settings that the package brought.
mkdir -p /etc/systemd/system/gpu-orchestrator.service.d
printf '[Service]\nExecStart=\nExecStart=/usr/lib/gpu-orchestrator/gpuo serve --simulate h100x2\n' \
  >/etc/systemd/system/gpu-orchestrator.service.d/simulated.conf
echo '# changed by the admin' >>/etc/gpu-orchestrator/config.yaml
systemctl daemon-reload
systemctl restart gpu-orchestrator
gpuo status | tee /root/status.txt
grep -q '2 of 2 free' /root/status.txt || fail "two free GPUs"

useradd --create-home ada
su ada -c 'gpuo run -g 2 --name training -- sh -c "echo \$CUDA_VISIBLE_DEVICES >~/gpus; while :; do sleep 0.2; done" >~/job.log 2>&1 & echo $! >~/job.pid'
until_true '[ -s ~ada/gpus ]' "the job has not started"
su ada -c 'gpuo run -g 1 --name waiting -- true >~/waiting.log 2>&1 & echo $! >~/waiting.pid'
until_true 'gpuo queue | grep -q waiting' "the second job does not wait"
gpuo status
gpuo queue

lease=$(gpuo leases --json | sed -n 's/.*"id":"\(training-[^"]*\)".*/\1/p')
before=$(systemctl show -p MainPID --value gpu-orchestrator)
dpkg -i /root/next.deb >/dev/null
[ "$(systemctl show -p MainPID --value gpu-orchestrator)" != "$before" ] || fail "the upgrade did not restart the daemon"
gpuo leases --json | grep -q "\"id\":\"$lease\"" || fail "the lease is gone after the upgrade"
pgrep -u ada -f CUDA_VISIBLE_DEVICES >/dev/null || fail "the job ended with the upgrade"
grep -q 'changed by the admin' /etc/gpu-orchestrator/config.yaml || fail "the upgrade changed the settings"
sleep 3
gpuo leases --json | grep -q "\"id\":\"$lease\"" || fail "the lease was not renewed after the upgrade"
echo "upgraded to $(dpkg-query -W -f '${Version}' gpu-orchestrator) with $lease live"

pkill -9 -u ada -f 'gpuo run --name waiting|gpuo run -g' || true
until_true 'gpuo status | grep -q "2 of 2 free"' "the GPUs did not come back after kill -9"
until_true '! pgrep -u ada -f CUDA_VISIBLE_DEVICES >/dev/null' "the job runs on without its lease"
echo "killed, and the GPUs are back: $(gpuo status | tail -1)"

if [ -e /opt/gpuo.whl ]; then
  su ada -c 'python3 /opt/notebook.py >~/notebook.log 2>&1 & echo $! >~/notebook.pid'
  until_true '[ -s /tmp/notebook ]' "the notebook has not come to its third cell: $(cat ~ada/notebook.log)"
  cat ~ada/notebook.log
  gpuo status
  gpuo leases | grep -q notebook || fail "the notebook's lease is not shown"
  kill -9 "$(cat /tmp/notebook)" "$(cat ~ada/notebook.pid)"
  until_true 'gpuo status | grep -q "2 of 2 free"' "the GPUs did not come back from the notebook"
  echo "the notebook was killed, and the GPUs are back: $(gpuo status | tail -1)"
fi

dpkg --remove gpu-orchestrator >/dev/null
! systemctl is-active --quiet gpu-orchestrator || fail "the daemon runs after the removal"
[ -e /etc/gpu-orchestrator/config.yaml ] || fail "the removal took the settings"
[ -e /var/lib/gpu-orchestrator/data/gpu-orchestrator.db ] || fail "the removal took the database"
dpkg -i /root/next.deb >/dev/null
systemctl is-active --quiet gpu-orchestrator || fail "the daemon does not run after it was installed again"
echo "removed, and installed again"
dpkg --purge gpu-orchestrator >/dev/null
[ ! -e /etc/gpu-orchestrator ] && [ ! -e /var/lib/gpu-orchestrator ] || fail "the purge left something"
! dpkg-query -W gpu-orchestrator 2>/dev/null | grep -q . || fail "dpkg still knows it"
echo "purged"
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
timeout --kill-after=10 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --boot -D "$root" >"$folder/boot.log" 2>&1 || true
cat "$root/root/try.log"
grep -q '^PASSED$' "$root/root/try.log"
