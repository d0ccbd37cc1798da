#!/usr/bin/env bash
# A SLURM cluster of one node, this machine, on loopback: for the tests, and for trying docs/cluster.md.  As root, on Debian or Ubuntu.
#
#   tests/slurm/start.sh [CPUS]    install slurm-wlm and munge where they are missing, start them; again is no harm
#
# Jobs share the node by cores; the node has CPUS of them and 64 GB, whatever the machine has
# (default 4: the tests' jobs mostly wait).
# SLURM keeps no accounting here, and can't hold a job to its memory (no cgroups in a container): a real cluster does both.
set -euo pipefail
cpus=${1:-4}
conf=/etc/slurm/slurm.conf
host=$(hostname -s)

missing=
for program in sbatch slurmctld slurmd munged; do
  command -v "$program" > /dev/null || missing=yes
done
if [ -n "$missing" ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null
fi

if [ -f "$conf" ] && ! grep -q "^ClusterName=tomostream-test$" "$conf"; then
  echo "$conf is another cluster's: left alone" >&2
  exit 1
fi
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm
cat > "$conf" << END
ClusterName=tomostream-test
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmUser=root
ReturnToService=2
MpiDefault=none
KillWait=5
MinJobAge=600
InactiveLimit=0
OverTimeLimit=0
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$host Gres=gpu:2 NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=64000 State=UNKNOWN
PartitionName=batch Nodes=$host Default=YES MaxTime=INFINITE State=UP
END

# two GPUs on paper: so that jobs with GPUs run, and find none
touch /var/spool/slurmd/gpu0 /var/spool/slurmd/gpu1
echo "Name=gpu File=/var/spool/slurmd/gpu[0-1]" > /etc/slurm/gres.conf

# munge's key and sockets belong to its user; without systemd nobody else makes /run/munge
[ -f /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom > /etc/munge/munge.key)
mkdir -p /run/munge /var/log/munge /var/lib/munge
chown -R munge: /etc/munge /run/munge /var/log/munge /var/lib/munge
pgrep -x munged > /dev/null || su -s /bin/sh munge -c /usr/sbin/munged
pgrep -x slurmctld > /dev/null || slurmctld
pgrep -x slurmd > /dev/null || slurmd

for _ in $(seq 60); do
  state=$(sinfo --noheader --format=%t 2> /dev/null || true)
  case $state in
    idle | mix | alloc) echo "SLURM: node $host with $cpus cores is $state"; exit 0 ;;
    down* | drain*) scontrol update "nodename=$host" state=resume || true ;;
  esac
  sleep 1
done
echo "SLURM did not come up:" >&2
tail -n 20 /var/log/slurm/*.log >&2
exit 1
