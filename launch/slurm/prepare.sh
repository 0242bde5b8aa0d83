# Ray inside of the allocation: a head on the first machine, a worker on each other one, all ended with their srun.
# `ray stop` would also end every other Ray of this user on the machine.
if [ "$SLURM_NNODES" -gt 1 ]; then
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    # A machine's name in Slurm is not always one that resolves.
    host=$(scontrol --oneliner show node "$head" | grep -o 'NodeAddr=[^ ]*' | cut -d = -f 2)
    address=$host:$((30000 + SLURM_JOB_ID % 10000))
    export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
    RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    export RAY_AUTH_TOKEN
    ray_options=(--num-cpus "${SLURM_CPUS_ON_NODE:-1}" --object-store-memory 268435456 --block)
    start_ray() { srun --overlap --kill-on-bad-exit=1 "${SRUN_OPTIONS[@]}" "$@" & }
    on_head=(--nodes=1 --ntasks=1 --nodelist="$head")
    start_ray "${on_head[@]}" \
        "${CONTAINER[@]}" ray start --head --port="${address##*:}" --include-dashboard=false "${ray_options[@]}" > "$OUTPUT.ray-head.log" 2>&1
    rays=$!
    for ((i = 0; i < 120; i++)); do
        # Another program may listen at this port.
        kill -0 "$rays" 2>/dev/null || { log "prepare: Ray has not started on $head; see $OUTPUT.ray-head.log"; exit 1; }
        (: > "/dev/tcp/$host/${address##*:}") 2>/dev/null && break
        sleep 1
    done
    start_ray --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \
        "${CONTAINER[@]}" ray start --address="$address" "${ray_options[@]}" > "$OUTPUT.ray-workers.log" 2>&1
    rays="$rays $!"
    # shellcheck disable=SC2086
    trap 'kill $rays 2>/dev/null' EXIT
    # Beside Ray's head, so that options of srun such as a container's hold for them, too.
    beside=(srun --overlap "${on_head[@]}" --kill-on-bad-exit=1 "${SRUN_OPTIONS[@]}")
    nodes() { "${beside[@]}" "${CONTAINER[@]}" ray status --address "$address" 2>/dev/null | grep -c ' node_'; }
    for ((i = 0; i < 90; i++)); do [ "$(nodes)" -ge "$SLURM_NNODES" ] && break; sleep 2; done
    log "Ray: $(nodes) of $SLURM_NNODES machines"
    COMMAND+=(--set "workers.address=$address")
    stage prepare "$OUTPUT" "${beside[@]}" "${COMMAND[@]}"
else
    stage prepare "$OUTPUT" srun --nodes=1 --ntasks=1 --kill-on-bad-exit=1 "${SRUN_OPTIONS[@]}" "${COMMAND[@]}"
fi
