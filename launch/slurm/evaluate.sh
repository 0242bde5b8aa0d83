stage evaluate "$OUTPUT" srun --nodes=1 --ntasks=1 --kill-on-bad-exit=1 "${SRUN_OPTIONS[@]}" "${COMMAND[@]}"
