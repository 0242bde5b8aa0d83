# Functions of a Slurm job that runs stages of Sesame; `sesame submit` puts them into each script.
# A stage that is stopped by a signal exits with 75 when the same command continues it; the job is then requeued.

# Since Slurm 22.05 srun does not read the processors of a task from sbatch's variable.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

log() { echo "[$(date +%FT%T)] job $SLURM_JOB_ID, restart ${SLURM_RESTART_COUNT:-0}: $*"; }

# stage NAME OUTPUT COMMAND...: run COMMAND, pass signals on to it, and end the job if it does not succeed.
stage() {
    local name=$1 output=$2 step code
    shift 2
    # Of an earlier job.
    if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then rm -f "$output.requeue"; fi
    log "$name on $SLURM_NNODES machines, $SLURM_CPUS_ON_NODE processors on ${SLURMD_NODENAME:-the first}: $*"
    # A shell runs a trap only between commands, so the command runs in the background and is waited for.
    "$@" &
    step=$!
    local signalled=
    trap 'signalled=1; log "signal: $name stops"; kill -USR1 "$step" 2>/dev/null' USR1 TERM
    while kill -0 "$step" 2>/dev/null; do wait "$step"; done
    wait "$step"
    code=$?
    trap - USR1 TERM
    # A signal that comes before the command can answer it ends it: nothing is lost.
    if [ -n "$signalled" ] && [ "$code" -gt 128 ] && [ "$code" -ne 137 ]; then code=75; fi
    log "$name: exit code $code"
    case $code in
        0) rm -f "$output.requeue" ;;
        75) requeue "$name" "$output" ;;
        *) exit "$code" ;;
    esac
}

# is_ended_by_slurm: whether the job was cancelled or requeued. scontrol would start even a cancelled one again.
is_ended_by_slurm() {
    case $(squeue --noheader --jobs "$SLURM_JOB_ID" --format "%T %r" 2>/dev/null) in
        *TimeLimit) return 1 ;;
        COMPLETING* | CANCELLED*) return 0 ;;
        *) return 1 ;;
    esac
}

# requeue NAME OUTPUT: start the job again, unless two attempts in a row have finished nothing.
requeue() {
    local before= count=0 now
    if is_ended_by_slurm; then
        log "$1: the job was cancelled or requeued; to continue a cancelled one, submit it again"
        exit 75
    fi
    now=$(find "$2" "$2.partial" -name '*.json' 2>/dev/null | sort | sha256sum | cut -d ' ' -f 1)
    if [ -f "$2.requeue" ]; then read -r before count < "$2.requeue"; fi
    if [ "$now" = "$before" ]; then count=$((count + 1)); else count=0; fi
    echo "$now $count" > "$2.requeue"
    if [ "$count" -ge 2 ]; then
        log "$1: two attempts have finished nothing, so the job is not requeued; give it a longer --time or save more often"
        rm -f "$2.requeue"
        exit 1
    fi
    # Slurm may end this script before the command that asks for it returns.
    log "$1: requeued"
    scontrol requeue "$SLURM_JOB_ID" || exit 75
    sleep 120
    exit 75
}
