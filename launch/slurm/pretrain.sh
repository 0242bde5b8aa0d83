# One task on each machine; it starts the trainers there and finds the others by Slurm's variables.
stage pretrain "$OUTPUT" srun --ntasks-per-node=1 --kill-on-bad-exit=1 "${SRUN_OPTIONS[@]}" "${COMMAND[@]}"
