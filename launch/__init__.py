"""What a compiled step will do on a chip that is not here: memory, operations, traffic and a bound of its speed.

`python -m launch.compile` compiles for a TPU slice on any host and prints the report.

    topologies, gpu_target            slices and GPUs that are not there
    jobs                              what a run would give to the compiler
    hlo, loops, collectives, traffic  pure functions over the text that the compiler returns
    chips, bound                      what a chip can do at most, and so the step
    report                            all of it together

`python -m launch.cloud` is the other half: machines that are there (launch/cloud).
"""
