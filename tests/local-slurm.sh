#!/usr/bin/env bash
# local-slurm.sh -- a real, throw-away Slurm cluster on one Debian machine, without systemd or cgroups.
#
#   local-slurm.sh up               install what is missing, start it (idempotent; restarts what died)
#   local-slurm.sh status           exit 0 when every daemon and node is up, 1 otherwise
#   local-slurm.sh exec CMD...      run CMD on the "login node" (SLURM_CONF set; inside the cluster's network)
#   local-slurm.sh env              print export lines: eval "$(local-slurm.sh env)" puts client wrappers on PATH
#   local-slurm.sh crash NODE       kill -9 everything on a node (power loss); `up` brings the node back
#   local-slurm.sh down             stop everything and remove the base dir (KEEP=1 keeps logs and state)
#
# Settings (environment):
#   LOCAL_SLURM_BASE=/var/tmp/local-slurm  base dir: key, config, state, logs, sockets; one cluster per base dir
#   LOCAL_SLURM_NET=netns|loopback      netns: each node has its own network, hostname, PIDs, /dev/shm (needs root);
#                                       loopback: all slurmd on 127.0.0.1 with different ports, one hostname
#   LOCAL_SLURM_NODES=3  LOCAL_SLURM_CPUS=8  LOCAL_SLURM_MEM=8000  LOCAL_SLURM_GPUS=4
#   LOCAL_SLURM_PRIVATE_TMP=0           1 (netns): every node has its own empty /tmp; base dir and jobs outside /tmp
#   LOCAL_SLURM_EXTRA='KillWait=30;...'  more slurm.conf lines, separated by ; (the last value of a key wins)
#   LOCAL_SLURM_USER_SIGNAL=1           0: preemption does not send the signal of sbatch --signal
#   LOCAL_SLURM_DBD=0                   1: also mariadb + slurmdbd: sacct, real QOS (apt: mariadb-server slurmdbd)
set -euo pipefail

BASE=${LOCAL_SLURM_BASE:-/var/tmp/local-slurm}
NET=${LOCAL_SLURM_NET:-netns}
NODES=${LOCAL_SLURM_NODES:-3}
CPUS=${LOCAL_SLURM_CPUS:-8}
MEM=${LOCAL_SLURM_MEM:-8000}
GPUS=${LOCAL_SLURM_GPUS:-4}
DBD=${LOCAL_SLURM_DBD:-0}
USERSIG=${LOCAL_SLURM_USER_SIGNAL:-1}
EXTRA=${LOCAL_SLURM_EXTRA:-}
PTMP=${LOCAL_SLURM_PRIVATE_TMP:-0}
SUBNET=10.53.0
CLIENTS="sbatch srun salloc squeue scancel scontrol sinfo sacct sstat sprio sdiag sacctmgr sattach sbcast"

say()  { printf 'local-slurm: %s\n' "$*"; }
die()  { printf 'local-slurm: ERROR: %s\n' "$*" >&2; exit 1; }
tailf() { [ -s "$1" ] && { printf -- '--- last lines of %s\n' "$1" >&2; tail -n "${2:-12}" "$1" >&2; } || true; }

[ -n "$BASE" ] && [ "${BASE#/}" != "$BASE" ] || die "LOCAL_SLURM_BASE must be an absolute path (got '$BASE')"
[ "$PTMP" = 0 ] || case $BASE in /tmp/*) die "LOCAL_SLURM_PRIVATE_TMP needs a base dir outside /tmp" ;; esac
case $BASE in / | /tmp | /home | /root | /etc | /var | /usr) die "refusing to use $BASE as base dir" ;; esac
[ ${#BASE} -le 70 ] || die "LOCAL_SLURM_BASE is too long for unix sockets (${#BASE} > 70 characters)"

# ---- processes: remembered as "pid starttime", so that a recycled pid is never signalled -----------------------
starttime() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; s=${s##*) }; set -- $s; [ "$1" != Z ] && echo "${20}"; }  # a zombie counts as gone
remember()  { echo "$2 $(starttime "$2")" >"$BASE/run/$1.proc"; }
alive() {  # alive NAME -> prints the pid
  local pid st; [ -s "$BASE/run/$1.proc" ] || return 1
  read -r pid st <"$BASE/run/$1.proc"; [ "$(starttime "$pid" || true)" = "$st" ] && echo "$pid"
}
stop() {  # stop NAME [first signal]
  local pid i; pid=$(alive "$1") || { rm -f "$BASE/run/$1.proc"; return 0; }
  kill "-${2:-TERM}" "$pid" 2>/dev/null || true
  for i in $(seq 100); do alive "$1" >/dev/null || break; sleep 0.1; [ "$i" = 80 ] && kill -KILL "$pid" 2>/dev/null || true; done
  rm -f "$BASE/run/$1.proc"
}
launch() {  # launch NAME CMD... : in the background, own session, log to log/NAME.out
  local name=$1; shift
  setsid "$@" >>"$BASE/log/$name.out" 2>&1 </dev/null 9>&- &
  remember "$name" $!
}
until_ok() {  # until_ok SECONDS CMD...   (WATCH=name: give up at once when that process has died)
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    [ -z "${WATCH:-}" ] || alive "$WATCH" >/dev/null || return 1
    sleep 0.1
  done
}

node_names() { for i in $(seq "$NODES"); do printf 'nid%06d\n' $((1000 + i)); done; }
node_range() { if [ "$NODES" = 1 ]; then echo nid001001; else printf 'nid[001001-%06d]' $((1000 + NODES)); fi; }
in_head() { if [ "$NET" = netns ]; then nsenter -t "$(alive head)" -n -u -m -- "$@"; else "$@"; fi; }

# ---- install -------------------------------------------------------------------------------------------------
install_packages() {
  local want=() c
  for c in slurmctld slurmd sbatch; do command -v $c >/dev/null || { want+=(slurm-wlm); break; }; done
  command -v munged >/dev/null || want+=(munge)
  [ "$NET" != netns ] || command -v ip >/dev/null || want+=(iproute2)
  command -v flock >/dev/null && command -v unshare >/dev/null || want+=(util-linux)
  if [ "$DBD" = 1 ]; then
    command -v slurmdbd >/dev/null || want+=(slurmdbd)
    command -v mariadbd >/dev/null || want+=(mariadb-server)
  fi
  [ ${#want[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "missing packages (${want[*]}); run as root: apt-get install --no-install-recommends ${want[*]}"
  say "installing ${want[*]}"
  local log policy=/usr/sbin/policy-rc.d mine=0 rc=0; log=$(mktemp)
  [ -e $policy ] || { mine=1; printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; }  # packages must not start daemons
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${want[@]}"; } >"$log" 2>&1 || rc=$?
  [ $mine = 0 ] || rm -f $policy
  [ $rc = 0 ] || { tail -n 15 "$log" >&2; rm -f "$log"; die "apt-get failed (exit $rc)"; }
  rm -f "$log"
}

# ---- configuration -------------------------------------------------------------------------------------------
free_port_block() {  # loopback mode: the first of NODES+2 ports nobody listens on, seeded by the base dir's name
  local p=$((20000 + $(printf %s "$BASE" | cksum | cut -d' ' -f1) % 10000)) used i
  used=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" {sub(/.*:/, "", $2); print $2}')  # hexadecimal
  while :; do
    for i in $(seq 0 $((NODES + 1))); do
      ! grep -qx "$(printf %04X $((p + i)))" <<<"$used" || { p=$((p + 100)); continue 2; }
    done
    echo $p; return
  done
}
newer() { [ "$(printf '%s\n%s\n' "$1" "$version" | sort -V | head -1)" = "$1" ]; }  # newer 24.05: this Slurm is 24.05 or later
write_config() {
  local headhost headaddr i name port0 dbdport version r c real
  version=$(slurmctld -V | grep -oE '[0-9]+\.[0-9]+' | head -1)
  if [ "$NET" = netns ]; then headhost=login01 headaddr=$SUBNET.1 port0=6817
  else headhost=$(hostname -s) headaddr=127.0.0.1 port0=$(free_port_block); fi
  dbdport=$([ "$NET" = netns ] && echo 6819 || echo $((port0 + NODES + 1)))
  mkdir -p "$BASE"/{etc,bin,run,log,munge,spool,dev}; chmod 755 "$BASE" "$BASE/munge"; mkdir -p "$BASE/state"; chmod 700 "$BASE/state"
  printf 'NET=%s NODES=%s CPUS=%s MEM=%s GPUS=%s DBD=%s PTMP=%s\n' "$NET" "$NODES" "$CPUS" "$MEM" "$GPUS" "$DBD" "$PTMP" >"$BASE/settings"
  if [ ! -s "$BASE/munge/munge.key" ]; then
    (umask 077; dd if=/dev/urandom bs=1 count=1024 2>/dev/null >"$BASE/munge/munge.key"); fi
  { echo "127.0.0.1 localhost"; echo "$SUBNET.1 login01"; i=10
    for name in $(node_names); do i=$((i + 1)); echo "$SUBNET.$i $name"; done; } >"$BASE/etc/hosts"
  for i in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$BASE/dev/nvidia$i"; done
  cat >"$BASE/etc/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$headhost($headaddr)
SlurmctldPort=$port0
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again (default 120 s)
AuthInfo=socket=$BASE/munge/socket,cred_expire=5
CredType=cred/munge
$( [ "$NET" = loopback ] && echo 'CommunicationParameters=NoInAddrAny,NoCtldInAddrAny' )
StateSaveLocation=$BASE/state
SlurmdSpoolDir=$BASE/spool/%n
SlurmctldPidFile=$BASE/run/slurmctld.pid
SlurmdPidFile=$BASE/run/slurmd.%n.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
# no cgroups, no pinning; config_overrides: nodes may claim more CPUs and memory than the machine has
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=15
MessageTimeout=20
InactiveLimit=0
KillWait=5
WaitTime=0
MinJobAge=7200
CompleteWait=0
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PriorityType=priority/basic
JobRequeue=1
EnforcePartLimits=ALL
$( [ "$USERSIG" = 0 ] || { newer 24.05 && echo 'PreemptParameters=send_user_signal' || echo 'SlurmctldParameters=preempt_send_user_signal'; } )
$( if [ "$DBD" = 1 ]; then
     echo "PreemptType=preempt/qos"; echo "PreemptMode=REQUEUE"
     echo "AccountingStorageType=accounting_storage/slurmdbd"; echo "AccountingStorageHost=$headaddr"
     echo "AccountingStoragePort=$dbdport"
     echo "AccountingStoragePass=$BASE/munge/socket"
     echo "AccountingStorageEnforce=associations,qos,limits"; echo "AccountingStorageTRES=gres/gpu"
   else
     echo "PreemptType=preempt/partition_prio"; echo "PreemptMode=REQUEUE"
     echo "AccountingStorageType=accounting_storage/none"; echo "JobSubmitPlugins=lua"
   fi )
JobCompType=jobcomp/filetxt
JobCompLoc=$BASE/log/jobcomp.log
GresTypes=gpu
CONF
  { i=0
    for name in $(node_names); do i=$((i + 1))
      if [ "$NET" = netns ]; then echo "NodeName=$name NodeAddr=$SUBNET.$((10 + i)) Port=6818 \\"
      else echo "NodeName=$name NodeHostname=$headhost NodeAddr=127.0.0.1 Port=$((port0 + i)) \\"; fi
      echo "  CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM Feature=gpu,cpu,a100 Gres=gpu:a100:$GPUS State=UNKNOWN"
    done
    r=$(node_range)
    if [ "$DBD" = 1 ]; then
      echo "PartitionName=gpu Nodes=$r Default=YES MaxTime=INFINITE DefaultTime=10 DefMemPerCPU=500 State=UP"
    else   # queues of NERSC as partitions; job_submit.lua turns -q NAME into -p NAME
      echo "PartitionName=debug   Nodes=$r Default=YES PriorityTier=50 PreemptMode=OFF MaxTime=30 DefaultTime=10 DefMemPerCPU=500 State=UP"
      echo "PartitionName=regular Nodes=$r PriorityTier=50 PreemptMode=OFF MaxTime=2880 DefaultTime=10 DefMemPerCPU=500 State=UP"
      echo "PartitionName=shared  Nodes=$r PriorityTier=50 PreemptMode=OFF MaxTime=2880 DefaultTime=10 DefMemPerCPU=500 State=UP"
      echo "PartitionName=preempt Nodes=$r PriorityTier=10 PreemptMode=REQUEUE GraceTime=10 MaxTime=2880 DefaultTime=10 DefMemPerCPU=500 State=UP"
    fi; } >>"$BASE/etc/slurm.conf"
  tr ';' '\n' <<<"$EXTRA" >>"$BASE/etc/slurm.conf"
  echo "NodeName=$(node_range) Name=gpu Type=a100 File=$BASE/dev/nvidia$([ "$GPUS" -gt 1 ] && echo "[0-$((GPUS - 1))]" || echo 0)" >"$BASE/etc/gres.conf"
  [ "$GPUS" -gt 0 ] || { : >"$BASE/etc/gres.conf"; sed -i 's/ Gres=gpu:a100:0//' "$BASE/etc/slurm.conf"; }
  if [ "$DBD" = 1 ]; then
    (umask 077; cat >"$BASE/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$BASE/munge/socket
DbdHost=$headhost
DbdAddr=$headaddr
DbdPort=$dbdport
SlurmUser=$(id -un)
LogFile=$BASE/log/slurmdbd.log
PidFile=$BASE/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$(id -un)
StorageLoc=slurm_acct
CONF
    )
  fi
  rm -f "$BASE/etc/cgroup.conf"; ! newer 24.05 || echo 'CgroupPlugin=disabled' >"$BASE/etc/cgroup.conf"
  cat >"$BASE/etc/job_submit.lua" <<'LUA'
function slurm_job_submit(job, parts, uid)
   if job.qos ~= nil and job.qos ~= "" then
      if job.partition == nil then job.partition = job.qos end
      job.qos = ""
   end
   return slurm.SUCCESS
end
function slurm_job_modify(job, rec, parts, uid) return slurm.SUCCESS end
LUA
  for c in $CLIENTS; do
    real=$(command -v "$c" || true); [ -n "$real" ] || continue
    case $real in "$BASE"/*) continue ;; esac
    cat >"$BASE/bin/$c" <<WRAP
#!/bin/sh
# enters the login node's namespaces when called from outside the cluster, else runs the real command
export SLURM_CONF=$BASE/etc/slurm.conf
if [ "\$(readlink /proc/self/ns/net)" = "\$(cat $BASE/run/outer.ns 2>/dev/null)" ]; then
  read -r pid _ < $BASE/run/head.proc
  exec nsenter -t "\$pid" -n -u -m -- sh -c 'cd "\$1" && shift && exec "\$@"' sh "\$PWD" $real "\$@"
fi
exec $real "\$@"
WRAP
    chmod 755 "$BASE/bin/$c"
  done
  cat >"$BASE/env.sh" <<ENV
export SLURM_CONF=$BASE/etc/slurm.conf
export LOCAL_SLURM_BASE=$BASE
case ":\$PATH:" in *":$BASE/bin:"*) ;; *) export PATH=$BASE/bin:\$PATH ;; esac
ENV
}

# ---- starting ------------------------------------------------------------------------------------------------
start_munge() {
  alive munge >/dev/null && return
  rm -f "$BASE/munge/socket" "$BASE/munge/socket.lock"
  launch munge munged -F --force --key-file="$BASE/munge/munge.key" --socket="$BASE/munge/socket" --num-threads=4 \
    --pid-file="$BASE/munge/pid" --log-file="$BASE/munge/munged.log" --seed-file="$BASE/munge/seed"
  WATCH=munge until_ok 10 munge -n -S "$BASE/munge/socket" || { tailf "$BASE/log/munge.out"; tailf "$BASE/munge/munged.log"; die "munged did not start"; }
}
start_head() {
  [ "$NET" = netns ] || return 0
  alive head >/dev/null && return
  local f; for f in slurmctld slurmdbd; do stop $f; done   # they would live in the dead login node's network
  for f in "$BASE"/run/node.*.proc; do [ ! -e "$f" ] || stop "$(basename "$f" .proc)" KILL; done
  readlink /proc/self/ns/net >"$BASE/run/outer.ns"
  rm -f "$BASE/run/head.ready"
  launch head unshare -n -u -m --propagation private bash -c '
    set -e; hostname login01; mount --bind "$1/etc/hosts" /etc/hosts
    ip link set lo up; ip link add hsn0 type bridge; ip addr add '$SUBNET'.1/24 dev hsn0; ip link set hsn0 up
    ip route add default via '$SUBNET'.254 2>/dev/null || true
    touch "$1/run/head.ready"; exec sleep infinity' head "$BASE"
  until_ok 10 test -e "$BASE/run/head.ready" || { tailf "$BASE/log/head.out"; die "could not set up the login node's network"; }
}
start_dbd() {  # a private MariaDB on a unix socket only, and slurmdbd
  [ "$DBD" = 1 ] || return 0
  alive slurmdbd >/dev/null && return
  local first=0
  export MYSQL_UNIX_PORT=$BASE/mysql.sock
  if [ ! -d "$BASE/mysql/mysql" ]; then
    first=1
    mariadb-install-db --no-defaults --datadir="$BASE/mysql" --user="$(id -un)" --auth-root-authentication-method=socket \
      --auth-root-socket-user="$(id -un)" --skip-test-db >"$BASE/log/mariadb-install.out" 2>&1 || { tailf "$BASE/log/mariadb-install.out"; die "mariadb-install-db failed"; }
  fi
  alive mariadb >/dev/null || launch mariadb mariadbd --no-defaults --datadir="$BASE/mysql" --socket="$BASE/mysql.sock" \
    --pid-file="$BASE/run/mariadb.pid" --user="$(id -un)" --skip-networking --innodb-buffer-pool-size=128M --innodb-flush-log-at-trx-commit=2
  WATCH=mariadb until_ok 30 mariadb --no-defaults --socket="$BASE/mysql.sock" -e 'select 1' || { tailf "$BASE/log/mariadb.out"; die "mariadbd did not start"; }
  mariadb --no-defaults --socket="$BASE/mysql.sock" -e 'create database if not exists slurm_acct'
  if [ "$NET" = netns ]; then launch slurmdbd nsenter -t "$(alive head)" -n -u -m -- env SLURM_CONF="$BASE/etc/slurm.conf" slurmdbd -D
  else launch slurmdbd env SLURM_CONF="$BASE/etc/slurm.conf" slurmdbd -D; fi
  export SLURM_CONF=$BASE/etc/slurm.conf
  WATCH=slurmdbd until_ok 30 in_head sacctmgr -n show cluster || { tailf "$BASE/log/slurmdbd.out"; die "slurmdbd did not start"; }
  [ $first = 1 ] || return 0
  in_head sh -e -c 'sacctmgr -i add cluster local; sacctmgr -i add account m1234
    sacctmgr -i add qos debug,regular,shared,interactive,preempt
    sacctmgr -i modify qos preempt set PreemptMode=requeue GraceTime=10
    sacctmgr -i modify qos debug,regular,shared,interactive set Priority=100 Preempt=preempt
    sacctmgr -i modify account root,m1234 set qos=debug,regular,shared,interactive,preempt defaultqos=debug
    sacctmgr -i add user '"$(id -un)"' account=m1234 || true
    sacctmgr -i modify user '"$(id -un)"' set defaultaccount=m1234' >"$BASE/log/sacctmgr.out" 2>&1 || { tailf "$BASE/log/sacctmgr.out"; die "sacctmgr failed"; }
}
start_ctld() {
  alive slurmctld >/dev/null && return
  export SLURM_CONF=$BASE/etc/slurm.conf
  if [ "$NET" = netns ]; then launch slurmctld nsenter -t "$(alive head)" -n -u -m -- slurmctld -D -f "$SLURM_CONF"
  else launch slurmctld slurmctld -D -f "$SLURM_CONF"; fi
  WATCH=slurmctld until_ok 20 ping_ctld || { tailf "$BASE/log/slurmctld.out"; tailf "$BASE/log/slurmctld.log"; die "slurmctld did not start"; }
}
ping_ctld() { SLURM_CONF=$BASE/etc/slurm.conf in_head scontrol ping | grep -q 'is UP'; }
start_node() {  # start_node NAME INDEX
  local name=$1 i=$2 head pid
  alive "node.$name" >/dev/null && return
  mkdir -p "$BASE/spool/$name"
  if [ "$NET" = loopback ]; then
    launch "node.$name" env SLURM_CONF="$BASE/etc/slurm.conf" slurmd -D -N "$name" -f "$BASE/etc/slurm.conf"; return
  fi
  head=$(alive head)
  rm -f "$BASE/run/node.$name.net"; 
  # the inner bash is process 1 of the node's own PID namespace: when it goes, everything on the node goes
  launch "node.$name" unshare -n -u -i -m --propagation private -p --fork --kill-child --mount-proc bash -c '
    set -e; base=$1 name=$2; hostname "$name"
    mount --bind "$base/etc/hosts" /etc/hosts; mount -t tmpfs tmpfs /dev/shm
    [ "$3" = 0 ] || { mount -t tmpfs tmpfs /tmp; chmod 1777 /tmp; }
    until [ -e "$base/run/node.$name.net" ]; do sleep 0.05; done
    ip link set lo up
    export SLURM_CONF=$base/etc/slurm.conf
    while :; do slurmd -D -N "$name" -f "$SLURM_CONF" || true; sleep 0.5; done' node "$BASE" "$name" "$PTMP"
  pid=$(alive "node.$name"); 
  until_ok 5 eval "[ \"\$(readlink /proc/$pid/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]" || { tailf "$BASE/log/node.$name.out"; die "no namespace for $name"; }
  nsenter -t "$head" -n ip link del "v$i" 2>/dev/null || true
  nsenter -t "$head" -n ip link add "v$i" type veth peer name hsn0 netns "$pid"
  nsenter -t "$head" -n ip link set "v$i" master hsn0 up
  nsenter -t "$pid" -n sh -c "ip addr add $SUBNET.$((10 + i))/24 dev hsn0 && ip link set hsn0 up && ip route add default via $SUBNET.1"
  touch "$BASE/run/node.$name.net"
}
nodes_ready() {
  [ "$(SLURM_CONF=$BASE/etc/slurm.conf in_head sinfo -h -N -o '%N %t' | sort -u | grep -cE ' (idle|mix|alloc|comp|resv|plnd)$')" -ge "$NODES" ]
}

# ---- verbs ---------------------------------------------------------------------------------------------------
load_settings() { [ -s "$BASE/settings" ] && . "$BASE/settings"; }
any_alive() { local f; for f in "$BASE"/run/*.proc; do [ -e "$f" ] && alive "$(basename "$f" .proc)" >/dev/null && return 0; done; return 1; }
lock() { mkdir -p "$BASE" 2>/dev/null || die "cannot create $BASE"; exec 9>"$BASE/.lock"; flock -w 120 9 || die "another local-slurm.sh holds $BASE/.lock"; }

up() {
  local t0=$EPOCHREALTIME i=0 name
  [ ! -e "$BASE" ] || [ -e "$BASE/settings" ] || [ -z "$(find "$BASE" -mindepth 1 ! -name .lock -print -quit)" ] || die "$BASE exists and is not a local-slurm base dir"
  if [ "$NET" = netns ]; then
    [ "$(id -u)" = 0 ] || die "netns mode needs root (or set LOCAL_SLURM_NET=loopback)"
    unshare -n -u -i -m -p --fork true 2>/dev/null || die "this kernel or container does not allow namespaces; set LOCAL_SLURM_NET=loopback"
  elif [ "$NET" != loopback ]; then die "LOCAL_SLURM_NET must be netns or loopback (got '$NET')"; fi
  install_packages; lock
  if [ -d "$BASE/run" ] && any_alive; then load_settings
  else write_config; fi
  start_munge; start_head; start_dbd; start_ctld
  for name in $(node_names); do i=$((i + 1)); start_node "$name" "$i"; done
  until_ok 30 nodes_ready || {
    SLURM_CONF=$BASE/etc/slurm.conf in_head sinfo -N -o '%N %t %E' >&2 || true
    for name in $(node_names); do tailf "$BASE/log/slurmd.$name.log" 5; done; die "not all nodes came up"; }
  say "up in $(awk "BEGIN{printf \"%.1f\", $EPOCHREALTIME-$t0}") s: $NODES nodes ($(node_range)), $CPUS CPUs and $GPUS fake GPUs each, $NET, base dir $BASE"
  say "next: eval \"\$($0 env)\"; sinfo   |   $0 exec CMD..."
}
status() {
  load_settings || { say "down (no cluster in $BASE)"; return 1; }
  local rc=0 n pid
  for n in munge $([ "$NET" = netns ] && echo head) $([ "$DBD" = 1 ] && echo mariadb slurmdbd) slurmctld $(node_names | sed 's/^/node./'); do
    if pid=$(alive "$n"); then say "$n: pid $pid"; else say "$n: NOT RUNNING"; rc=1; fi
  done
  if alive slurmctld >/dev/null && ping_ctld; then
    SLURM_CONF=$BASE/etc/slurm.conf in_head sinfo -N -o '%N %t %C %G %E' | sort -u; nodes_ready || rc=1
  else say "slurmctld does not answer"; rc=1; fi
  return $rc
}
down() {
  [ -e "$BASE/settings" ] || { [ ! -d "$BASE" ] || rmdir "$BASE" 2>/dev/null || true; say "already down ($BASE)"; return 0; }
  lock; load_settings || true
  local f n
  if ! [ "$NET" = netns ] && alive slurmctld >/dev/null; then   # no PID namespaces to take the jobs down with
    SLURM_CONF=$BASE/etc/slurm.conf timeout 5 scancel --user="$(id -un)" -f 2>/dev/null || true
    until_ok 8 sh -c "! SLURM_CONF=$BASE/etc/slurm.conf squeue -h -t all -t R,CG,S | grep -q ." || true
  fi
  stop slurmctld
  for f in "$BASE"/run/node.*.proc; do [ -e "$f" ] || continue; n=$(basename "$f" .proc); stop "$n" "$([ "$NET" = netns ] && echo KILL || echo TERM)"; done
  stop slurmdbd; stop mariadb; stop head KILL; stop munge
  if [ "${KEEP:-0}" = 1 ]; then say "down; kept $BASE"; else rm -rf "$BASE"; say "down; removed $BASE"; fi
}
case ${1:-} in
  up) up ;;
  down) down ;;
  status) status ;;
  env) [ -s "$BASE/env.sh" ] || die "no cluster in $BASE (run: $0 up)"; cat "$BASE/env.sh" ;;
  exec) shift; load_settings || die "no cluster in $BASE (run: $0 up)"; export SLURM_CONF=$BASE/etc/slurm.conf
    [ "$NET" = netns ] || exec "$@"
    pid=$(alive head) || die "the cluster in $BASE is not running"
    exec nsenter -t "$pid" -n -u -m -- sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@" ;;
  crash) load_settings || die "no cluster in $BASE"; alive "node.${2:?node name}" >/dev/null || die "$2 is not running"; stop "node.$2" KILL; say "$2 crashed" ;;
  *) sed -n '2,/^set /{/^#/p}' "$0" | sed 's/^# \{0,1\}//'; exit 2 ;;
esac
