"""What a run needs before it is started: memory of each process, floating-point operations, time and cost.

Shapes only: no weight is allocated, no process is started, and neither DeepSpeed nor megatron-core is imported.
"""
