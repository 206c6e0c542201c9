#!/bin/bash
# A SLURM cluster of one node on this machine, for trying out sweeps: Debian's slurm-wlm and munge.
# Run as root: apt-get install slurm-wlm munge; bash experiments/sweeps/slurm_here.sh
set -e
state=${SLURM_STATE:-/var/tmp/slurm_here}
mkdir -p "$state/ctld" "$state/d" /run/munge /etc/slurm
[ -f /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom > /etc/munge/munge.key)
chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
pgrep munged > /dev/null || setpriv --reuid munge --regid munge --clear-groups munged
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=here
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
ReturnToService=2
SlurmdTimeout=15
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=here Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
pgrep slurmctld > /dev/null || slurmctld
pgrep -x slurmd > /dev/null || slurmd
for _ in $(seq 20); do sinfo -h -o %T | grep -q idle && break; sleep 1; done
sinfo
